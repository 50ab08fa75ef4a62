rabbitmq = { host = "queue.example.com", username = "app", password = "it" }
