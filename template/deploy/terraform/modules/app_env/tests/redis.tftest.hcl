run "it_is_encrypted" {
  command = plan
  assert {
    condition     = output.environment.REDIS_URL == join("@", ["rediss://:p%2Fw", "cache.example.com:6379/0"])
    error_message = "It is ${nonsensitive(output.environment.REDIS_URL)}."
  }
}

run "it_may_be_open_inside_a_network" {
  command = plan
  variables {
    redis = { host = "10.0.0.1", database = 3, tls = false }
  }
  assert {
    condition     = output.environment.REDIS_URL == "redis://10.0.0.1:6379/3"
    error_message = "It is ${nonsensitive(output.environment.REDIS_URL)}."
  }
}

run "a_name_without_a_password_is_refused" {
  command = plan
  variables {
    redis = { host = "one", username = "app" }
  }
  expect_failures = [var.redis]
}
