variable "attached" {
  description = "Backing service to what it gives: the inputs of ../modules/app_env, which checks them."
  sensitive   = true
  type        = any
}

variable "namespace" {
  description = "Where the service runs: that of its overlay."
  type        = string
}
