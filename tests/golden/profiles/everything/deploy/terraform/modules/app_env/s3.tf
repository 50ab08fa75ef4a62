variable "s3" {
  description = "A bucket. Without keys the identity of the machine counts, without an endpoint it is AWS's."
  sensitive   = true
  type = object({
    bucket            = string
    region            = optional(string, "us-east-1")
    endpoint          = optional(string)
    access_key_id     = optional(string)
    secret_access_key = optional(string)
  })
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.s3.bucket))
    error_message = "s3.bucket is the name of a bucket, no ARN and no URL."
  }
  validation {
    condition     = (var.s3.access_key_id == null) == (var.s3.secret_access_key == null)
    error_message = "s3.access_key_id goes with s3.secret_access_key: set both or neither."
  }
}

locals {
  s3 = { for name, value in {
    S3_BUCKET            = var.s3.bucket
    S3_REGION            = var.s3.region
    S3_ENDPOINT          = var.s3.endpoint
    S3_ACCESS_KEY_ID     = var.s3.access_key_id
    S3_SECRET_ACCESS_KEY = var.s3.secret_access_key
  } : name => value if value != null }
}
