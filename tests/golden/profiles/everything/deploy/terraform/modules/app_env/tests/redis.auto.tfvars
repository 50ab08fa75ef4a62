redis = { host = "cache.example.com", password = "p/w" }
