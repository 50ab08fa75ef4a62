

def origin(value: str) -> str:
    """A validator for the address of a server whose paths its client makes."""
    try:
        found = urlsplit(value)
        fits = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        fits = False
    if not fits or set(value) & set(" \t\r\n@?#"):
        raise ValueError("is https:// or http:// and a host, such as https://s3.example.com:9000")
    return value


def pair(name: str) -> Any:
    """A validator for a variable that means nothing without another."""

    def check(value: object, info: Any) -> object:
        if (value is None) != (info.data.get(name) is None):
            raise ValueError(f"goes with {name.upper()}: set both or neither")
        return value

    return AfterValidator(check)


Origin = Annotated[str, AfterValidator(origin)]
S3Secret = Annotated[SecretStr | None, pair("s3_access_key_id")]
