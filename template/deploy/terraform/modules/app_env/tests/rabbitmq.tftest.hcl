run "the_virtual_host_is_one_part_of_the_path" {
  command = plan
  assert {
    condition     = output.environment.RABBITMQ_URL == join("@", ["amqps://app:it", "queue.example.com:5671/%2F"])
    error_message = "It is ${nonsensitive(output.environment.RABBITMQ_URL)}."
  }
}

run "a_url_is_refused" {
  command = plan
  variables {
    rabbitmq = { host = "amqps://queue", username = "app", password = "it" }
  }
  expect_failures = [var.rabbitmq]
}
