

def database(value: SecretStr) -> SecretStr:
    """The driver takes what it cannot read for database 0, and other parameters for its own."""
    given = urlsplit(value.get_secret_value())
    number = given.path.removeprefix("/")
    options = given.query.split("&") if given.query else []
    if (number and not (number.isascii() and number.isdigit())) or any(
        not option.startswith("ssl_") for option in options
    ):
        raise ValueError("ends in /NUMBER of the database, and ?ssl_ca_certs=FILE if need be")
    return value


RedisUrl = Annotated[SecretStr, url("redis", "rediss"), AfterValidator(database)]
