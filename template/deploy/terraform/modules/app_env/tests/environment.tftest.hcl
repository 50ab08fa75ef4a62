run "it_holds_names_and_words_of_variables" {
  command = plan
  assert {
    condition = alltrue([
      for name, value in output.environment :
      can(regex("^[A-Z][A-Z0-9_]*$", name)) && length(value) > 0
    ])
    error_message = "It has ${join(", ", nonsensitive(keys(output.environment)))}."
  }
}
