run "a_password_may_have_any_character" {
  command = plan
  assert {
    condition     = output.environment.DATABASE_URL == join("@", ["postgresql://app:p%20w%2B%2F%40%3A%25", "db.example.com:5432/app?sslmode=require"])
    error_message = "It is ${nonsensitive(output.environment.DATABASE_URL)}."
  }
}

run "several_hosts_are_refused" {
  command = plan
  variables {
    postgres = { host = "one,two", database = "app", username = "app", password = "it" }
  }
  expect_failures = [var.postgres]
}

run "no_encryption_is_refused" {
  command = plan
  variables {
    postgres = { host = "one", database = "app", username = "app", password = "it", sslmode = "disable" }
  }
  expect_failures = [var.postgres]
}
