variable "rabbitmq" {
  description = "RabbitMQ: what a managed broker gives, as its outputs."
  sensitive   = true
  type = object({
    host         = string
    port         = optional(number, 5671)
    username     = string
    password     = string
    virtual_host = optional(string, "/")
    tls          = optional(bool, true)
  })
  validation {
    condition     = can(regex("^[A-Za-z0-9.-]+$", var.rabbitmq.host))
    error_message = "rabbitmq.host is one host name or address: no port, no URL."
  }
}

locals {
  rabbitmq = {
    RABBITMQ_URL = format("%s://%s:%s@%s:%d/%s",
      var.rabbitmq.tls ? "amqps" : "amqp",
      replace(urlencode(var.rabbitmq.username), "+", "%20"),
      replace(urlencode(var.rabbitmq.password), "+", "%20"),
      var.rabbitmq.host, var.rabbitmq.port,
      replace(urlencode(var.rabbitmq.virtual_host), "+", "%20"),
    )
  }
}
