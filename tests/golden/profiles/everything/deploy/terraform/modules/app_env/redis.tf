variable "redis" {
  description = "Redis or Valkey: what a managed store gives, as its outputs."
  sensitive   = true
  type = object({
    host     = string
    port     = optional(number, 6379)
    database = optional(number, 0)
    username = optional(string, "")
    password = optional(string, "")
    tls      = optional(bool, true)
  })
  validation {
    condition     = can(regex("^[A-Za-z0-9.-]+$", var.redis.host))
    error_message = "redis.host is one host name or address: no port, no URL."
  }
  validation {
    condition     = var.redis.username == "" || var.redis.password != ""
    error_message = "redis.username goes with redis.password: set both or neither."
  }
}

locals {
  redis = {
    REDIS_URL = format("%s://%s%s:%d/%d",
      var.redis.tls ? "rediss" : "redis",
      var.redis.password == "" ? "" : format("%s:%s@",
        replace(urlencode(var.redis.username), "+", "%20"),
        replace(urlencode(var.redis.password), "+", "%20"),
      ),
      var.redis.host, var.redis.port, var.redis.database,
    )
  }
}
