variable "attached" {
  description = "Backing service to what it gives: the inputs of ../modules/app_env, which checks them."
  sensitive   = true
  type        = any
}

variable "environment" {
  description = "Such as staging or production: a part of each parameter's name."
  type        = string
}
