# The Secret that the manifests of invoiceflow want. Its values lie in the state: keep that as a secret.
terraform {
  required_version = ">= 1.7"
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 2.38"
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

resource "kubernetes_secret_v1" "secrets" {
  metadata {
    name      = "secrets"
    namespace = var.namespace
  }
  data = module.app_env.environment
}
