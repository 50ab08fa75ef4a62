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

    database_url: PostgresUrl
    """Where PostgreSQL is, a libpq URL of one host."""

    database_pool_size: int = Field(5, ge=1, le=100)
    """Connections that one process holds at most; a worker as many again for its queue."""

    database_timeout_seconds: float = Field(5, gt=0, le=300)
    """Longest transaction, waiting for a connection included."""

    port: int = Field(8000, ge=1, le=65535)
    """Port to listen on, on every interface."""

    request_timeout_seconds: float = Field(10, gt=0, le=300)
    """Longest that a request may take."""

    max_body_bytes: int = Field(1_048_576, ge=0)
    """Largest request body."""

    drain_seconds: float = Field(5, ge=0, le=300)
    """How long to go on serving after SIGTERM, longer than the balancer takes to notice."""

    redis_url: RedisUrl
    """Where Redis or Valkey is; rediss:// for TLS."""

    redis_pool_size: int = Field(10, ge=1, le=1000)
    """Connections that one process holds at most."""

    redis_timeout_seconds: float = Field(2, gt=0, le=300)
    """Longest that a block of commands may take, waiting for a connection included."""

    s3_bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    """The bucket that holds the objects."""

    s3_region: str = Field("us-east-1", pattern=r"^[A-Za-z0-9-]+$")
    """Where the bucket is."""

    s3_endpoint: Origin | None = None
    """A server other than AWS, also the host of presigned URLs."""

    s3_access_key_id: SecretStr | None = None
    """Key of the bucket; without one the machine's role counts."""

    s3_secret_access_key: S3Secret = Field(None, validate_default=True)
    """The secret that goes with the key."""

    s3_pool_size: int = Field(10, ge=1, le=1000)
    """Objects that one process reads or writes at once; a write holds 10 MiB."""

    s3_timeout_seconds: float = Field(5, gt=0, le=300)
    """Longest wait for the next part of an answer."""

    worker_concurrency: int = Field(10, ge=1, le=1000)
    """Jobs that one worker runs at once."""

    heartbeat_file: str = ""
    """A file that a worker touches while it is alive, for probes; none by default."""

    rabbitmq_url: RabbitmqUrl
    """Where RabbitMQ is; amqps:// for TLS."""

    rabbitmq_queue: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,100}$")
    """The queue in which jobs wait, named after the package by default."""

    webhook_secret: SecretStr = Field(min_length=16)
    """Signs the payment provider's webhooks."""

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
