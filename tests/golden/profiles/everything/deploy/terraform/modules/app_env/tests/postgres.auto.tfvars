postgres = { host = "db.example.com", database = "app", username = "app", password = "p w+/@:%" }
