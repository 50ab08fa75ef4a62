"""Redis or Valkey: one pool a process, one deadline a block of commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from .config import Settings
from .resources import Unavailable

HEALTH_CHECK_SECONDS = 30  # a connection that was idle for so long is tried before it is used

# What a server answers that starts, or is the primary no longer: the driver connects anew, to
# where the address leads by then, and sends the command again. No other is sent twice.
REFUSED = (exceptions.BusyLoadingError, exceptions.MasterDownError, exceptions.ReadOnlyError)

# No answer, or one that says that the server is up and cannot serve; some of those are but a code.
AWAY = (
    *REFUSED,
    exceptions.ConnectionError,
    exceptions.InvalidResponse,
    exceptions.OutOfMemoryError,
    exceptions.TimeoutError,
)
AWAY_CODES = ("MISCONF ", "NOREPLICAS ")

log = structlog.get_logger()

_client: Redis | None = None
_timeout = 2.0
_away = False


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[None]:
    """Make the pool; a connection is opened when the first command needs it."""
    global _client, _timeout
    before = _client, _timeout
    _timeout = settings.redis_timeout_seconds
    pool = BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        health_check_interval=HEALTH_CHECK_SECONDS,
        max_connections=settings.redis_pool_size,
        protocol=2,  # every server and proxy speaks it; under 3 a server may speak unasked
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), 2, REFUSED),
        # commands() has the only deadline: the driver's own would swallow its cancellation.
        socket_connect_timeout=None,
        socket_timeout=None,
        timeout=None,
    )
    _client = client = Redis.from_pool(pool)
    try:
        yield
    finally:
        _client, _timeout = before
        await client.aclose()


@asynccontextmanager
async def commands() -> AsyncIterator[Redis]:
    """A client, for commands that have REDIS_TIMEOUT_SECONDS together.

    Raises Unavailable when Redis cannot be reached, cannot serve, or the time has passed: nobody
    knows then whether the last command was done.
    """
    try:
        async with asyncio.timeout(_timeout) as deadline:
            if _client is None:
                raise exceptions.ConnectionError("not attached")
            yield _client
    except exceptions.RedisError as error:
        if not isinstance(error, AWAY) and not any(code in str(error) for code in AWAY_CODES):
            raise
        _note(error)
        raise Unavailable("redis") from error
    except TimeoutError as error:
        if not deadline.expired():
            raise
        _note(error)
        raise Unavailable("redis") from error
    _note(None)


async def ping() -> None:
    """Raise unless Redis answers, and keeps what it was given."""
    async with commands() as client:
        try:
            memory = await client.info("memory")
        except exceptions.ResponseError:  # not for everybody, on some managed servers
            await client.ping()
            return
    policy = memory.get("maxmemory_policy", "noeviction") if memory.get("maxmemory") else ""
    if policy.startswith("allkeys"):
        raise RuntimeError("it drops keys when it is full: set maxmemory-policy to noeviction")
    if policy.startswith("volatile"):
        hint = "Sessions and idempotency keys may go early: set maxmemory-policy to noeviction."
        log.warning("redis.evicts", policy=policy, hint=hint)


def _note(error: Exception | None) -> None:
    """Log when Redis goes away and when it is back, not what happens in between."""
    global _away
    if error and not _away:
        log.warning("redis.away", reason=str(error) or type(error).__name__)
    elif _away and not error:
        log.info("redis.back")
    _away = bool(error)
