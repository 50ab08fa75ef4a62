run "it_is_handed_on" {
  command = plan
  assert {
    condition     = output.environment.WEBHOOK_SECRET == "only-for-this-test"
    error_message = "It is another."
  }
}

run "a_short_one_is_refused" {
  command = plan
  variables {
    webhook = { secret = "short" }
  }
  expect_failures = [var.webhook]
}
