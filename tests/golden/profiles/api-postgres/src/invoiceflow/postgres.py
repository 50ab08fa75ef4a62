"""PostgreSQL: one pool a process, one deadline a transaction."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg import OperationalError as DriverError
from psycopg.rows import TupleRow
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from .config import Settings
from .resources import Unavailable

# A connection whose other end is gone says so within 15 s, whatever the kernel's defaults are.
KEEPALIVE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

CANCEL_SECONDS = 1

_sessions = async_sessionmaker[AsyncSession](expire_on_commit=False)
_timeout = 5.0


class Base(DeclarativeBase):
    """Base of all tables; its metadata is what `alembic revision --autogenerate` compares."""


class Connection(AsyncConnection[TupleRow]):
    """A connection that is given up when not even a cancellation is heard."""

    async def cancel_safe(self, *, timeout: float = CANCEL_SECONDS) -> None:  # noqa: ASYNC109
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_SECONDS))
        except DriverError:
            self.pgconn.finish()
            raise


def address(settings: Settings) -> URL:
    """DATABASE_URL for SQLAlchemy: any libpq URL, with the driver named."""
    url = make_url(settings.database_url.get_secret_value())
    return url.set(drivername="postgresql+psycopg")


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[None]:
    """Make the pool; a connection is opened when the first transaction needs it."""
    global _timeout
    _timeout = settings.database_timeout_seconds
    engine = create_async_engine(
        address(settings),
        # None: safe behind PgBouncer, whose connections change between transactions.
        connect_args=KEEPALIVE
        | {"async_creator_fn": Connection.connect, "prepare_threshold": None},
        max_overflow=0,
        pool_size=settings.database_pool_size,
        pool_timeout=_timeout,
    )
    _sessions.configure(bind=engine)
    try:
        yield
    finally:
        await engine.dispose()


@asynccontextmanager
async def transaction() -> AsyncIterator[AsyncSession]:
    """A transaction: commits at the end, rolls back on an error.

    Raises Unavailable when PostgreSQL cannot be reached or DATABASE_TIMEOUT_SECONDS pass: the
    deadline is kept here, since a server that hangs keeps none of its own.
    """
    try:
        async with asyncio.timeout(_timeout) as deadline, _sessions.begin() as session:
            yield session
    except (DriverError, PoolTimeout) as error:
        raise Unavailable("postgres") from error
    except DBAPIError as error:
        if isinstance(error.orig, DriverError):
            raise Unavailable("postgres") from error
        raise
    except TimeoutError as error:
        if deadline.expired():
            raise Unavailable("postgres") from error
        raise


async def driver(session: AsyncSession) -> AsyncConnection[TupleRow]:
    """The driver's connection, in the session's transaction: half the cost, for what runs often."""
    raw = await (await session.connection()).get_raw_connection()
    connection: Any = raw.driver_connection
    return connection  # type: ignore[no-any-return]


async def ping() -> None:
    """Raise unless PostgreSQL answers and its schema is at least as new as this release."""
    heads, older = _revisions()
    async with transaction() as session:
        applied: set[str] = set()
        released = await session.scalar(text("select to_regclass('alembic_version')"))
        if released:
            applied.update(await session.scalars(text("select version_num from alembic_version")))
    # A revision that this release does not know is a newer release's: a rollback runs on it.
    if not released or applied & older or len(applied) < len(heads):
        raise RuntimeError("the schema is older than this release: run the release process")


@cache
def _revisions() -> tuple[set[str], set[str]]:
    """The newest revision of each branch and all older ones, without the cost of Alembic."""
    revisions: set[str] = set()
    older: set[str] = set()
    for path in (Path(__file__).parent / "migrations" / "versions").glob("*.py"):
        for name, value in re.findall(
            r"^(revision|down_revision)\b.* = (.+)$", path.read_text(), re.M
        ):
            found = older if name == "down_revision" else revisions
            found.update(re.findall(r"[\"'](.+?)[\"']", value))
    return revisions - older, older
