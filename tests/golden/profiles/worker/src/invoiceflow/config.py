"""Settings (factor III): the only module that reads the environment, and nothing else."""

import os
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError


class Invalid(Exception):
    """Variables are missing or malformed: their names and what is wrong, never their values."""

    def __init__(self, error: ValidationError) -> None:
        missing: list[str] = []
        malformed: dict[str, str] = {}
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(fault["loc"][0]).upper()
            if fault["type"] == "missing":
                missing.append(name)
            else:
                malformed[name] = fault["msg"]
        self.names = {"missing": missing, "malformed": malformed}
        super().__init__(self.names)


def url(*schemes: str) -> Any:
    """A validator for the URL of an attached resource."""

    def check(value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        if given.partition("://")[0] not in schemes:
            raise ValueError(f"begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        try:
            urlsplit(given).port  # noqa: B018
        except ValueError:
            raise ValueError("has no host and port to read: is the password %-encoded?") from None
        return value

    return AfterValidator(check)


PostgresUrl = Annotated[SecretStr, url("postgresql", "postgres")]
RabbitmqUrl = Annotated[SecretStr, url("amqp", "amqps")]


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


class Settings(BaseModel):
    """One field a variable; a field without a default is a variable that must be set."""

    model_config = ConfigDict(frozen=True)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log level to print."""

    release_id: str = "unreleased"
    """The release that runs; the deploy sets it."""

    revision: str = "unknown"
    """The commit that was built; the image carries it."""

    grace_seconds: float = Field(20, gt=0, le=3600)
    """Longest wait for work in hand once the process stops."""

    redis_url: RedisUrl
    """Where Redis or Valkey is; rediss:// for TLS."""

    redis_pool_size: int = Field(10, ge=1, le=1000)
    """Connections that one process holds at most."""

    redis_timeout_seconds: float = Field(2, gt=0, le=300)
    """Longest that a block of commands may take, waiting for a connection included."""

    worker_concurrency: int = Field(10, ge=1, le=1000)
    """Jobs that one worker runs at once."""

    heartbeat_file: str = ""
    """A file that a worker touches while it is alive, for probes; none by default."""

    worker_stalled_seconds: float = Field(30, ge=1, le=3600)
    """Silence after which a worker counts as dead and its jobs are given to others."""

    # Yours below this line.


def load() -> Settings:
    """Read the environment, an empty variable as none; raises Invalid with every fault at once."""
    names = {name: name.upper() for name in Settings.model_fields}
    try:
        return Settings.model_validate(
            {name: os.environ[upper] for name, upper in names.items() if os.environ.get(upper)}
        )
    except ValidationError as error:
        raise Invalid(error) from None
