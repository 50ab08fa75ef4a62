webhook = { secret = "only-for-this-test" }
