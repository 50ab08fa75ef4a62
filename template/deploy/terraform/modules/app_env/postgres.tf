variable "postgres" {
  description = "PostgreSQL: what a managed database gives, as its outputs."
  sensitive   = true
  type = object({
    host     = string
    port     = optional(number, 5432)
    database = string
    username = string
    password = string
    sslmode  = optional(string, "require")
  })
  validation {
    condition     = can(regex("^[A-Za-z0-9.-]+$", var.postgres.host))
    error_message = "postgres.host is one host name or address: no port, no list, no URL."
  }
  validation {
    condition     = contains(["prefer", "require", "verify-ca", "verify-full"], var.postgres.sslmode)
    error_message = "postgres.sslmode is prefer, require, verify-ca or verify-full."
  }
}

locals {
  postgres = {
    DATABASE_URL = format("postgresql://%s:%s@%s:%d/%s?sslmode=%s",
      replace(urlencode(var.postgres.username), "+", "%20"),
      replace(urlencode(var.postgres.password), "+", "%20"),
      var.postgres.host, var.postgres.port,
      replace(urlencode(var.postgres.database), "+", "%20"),
      var.postgres.sslmode,
    )
  }
}
