run "an_identity_needs_no_key" {
  command = plan
  assert {
    condition = { for name, value in output.environment : name => value if startswith(name, "S3_") } == {
      S3_BUCKET = "documents"
      S3_REGION = "eu-central-1"
    }
    error_message = "It has ${join(", ", nonsensitive(keys(output.environment)))}."
  }
}

run "half_a_key_is_refused" {
  command = plan
  variables {
    s3 = { bucket = "documents", access_key_id = "it" }
  }
  expect_failures = [var.s3]
}
