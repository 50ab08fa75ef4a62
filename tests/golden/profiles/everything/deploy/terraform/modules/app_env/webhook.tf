variable "webhook" {
  description = "What signs the payment provider's webhooks."
  sensitive   = true
  type        = object({ secret = string })
  validation {
    condition     = length(var.webhook.secret) >= 16
    error_message = "webhook.secret has 16 characters or more."
  }
}

locals {
  webhook = { WEBHOOK_SECRET = var.webhook.secret }
}
