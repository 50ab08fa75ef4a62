s3 = { bucket = "documents", region = "eu-central-1" }
