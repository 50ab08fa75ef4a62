# The variables of invoiceflow out of its backing services (factors III and IV). It needs no provider.
terraform {
  required_version = ">= 1.7"
}

output "environment" {
  description = "Variable to value: what each process of the service is given, on any platform."
  sensitive   = true
  value       = merge({}, local.postgres, local.redis, local.s3, local.rabbitmq, local.webhook)
}
