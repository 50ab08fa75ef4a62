# The parameters that the tasks of invoiceflow read. Their values lie in the state: keep that as a secret.
terraform {
  required_version = ">= 1.7"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

module "app_env" {
  source = "../modules/app_env"

  postgres = var.attached.postgres

  redis = var.attached.redis

  s3 = var.attached.s3

  rabbitmq = var.attached.rabbitmq

  webhook = var.attached.webhook
}

resource "aws_ssm_parameter" "environment" {
  for_each = nonsensitive(toset(keys(module.app_env.environment)))

  name  = "/invoiceflow/${var.environment}/${each.key}"
  type  = "SecureString"
  value = module.app_env.environment[each.key]
}
