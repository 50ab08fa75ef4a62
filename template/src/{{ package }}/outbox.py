"""The outbox: jobs join a transaction of PostgreSQL, and go to the broker once it is committed.

A process that dies between the two loses no job: whatever stands in the table is still sent.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import structlog
from psycopg import AsyncConnection, conninfo
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from .config import Settings
from .postgres import KEEPALIVE, driver, transaction
from .runner import Message, P, Send, Task, Tick

BATCH = 100
RETRY_SECONDS = 1
POLL_SECONDS = 1  # for what no notification announced
COLUMNS = "id, job, arguments, context, key"

PUT = f"""
insert into outbox ({COLUMNS}) values (default, %(job)s, %(arguments)s, %(context)s, null)
returning id
"""  # noqa: S608
PUT_ONCE = f"""
with waiting as (
    insert into outbox_keys (key, id) values (%(key)s, nextval('outbox_id_seq'))
    on conflict do nothing returning id
)
insert into outbox ({COLUMNS})
select id, %(job)s, %(arguments)s, %(context)s, %(key)s from waiting
returning id
"""  # noqa: S608
TAKE = text(f"""
delete from outbox where id in
    (select id from outbox order by id limit {BATCH} for update skip locked)
returning {COLUMNS}
""")  # noqa: S608

log = structlog.get_logger()


class Job(Task[P]):
    """A job that joins the transaction of the change that asks for it."""

    async def enqueue(
        self, session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs
    ) -> str | None:
        """Put it on the queue when the session's transaction commits.

        Returns its id, or None if one waits under its key already.
        """
        return await _put(session, self.message(*args, **kwargs))


async def _put(session: AsyncSession, message: Message) -> str | None:
    values = message._asdict()
    for name in ("arguments", "context"):
        values[name] = orjson.dumps(values[name]).decode()
    query = PUT_ONCE if message.key else PUT
    row = await (await (await driver(session)).execute(query, values)).fetchone()
    return str(row[0]) if row else None


async def started(message_id: str, key: str) -> None:
    """From here on another job may wait under this key."""
    async with transaction() as session:
        await session.execute(
            text("delete from outbox_keys where key = :key and id = :id"),
            {"key": key, "id": int(message_id)},
        )


async def due(tick: Tick, times: Callable[[datetime, datetime], list[datetime]]) -> None:
    """Enqueue a job for each of its times that has passed, whoever else does the same."""
    row = {"job": tick.task.name, "cron": tick.cron}
    async with transaction() as session:
        now = datetime.now(UTC)
        await session.execute(
            text("insert into outbox_ticks values (:job, :cron, :now) on conflict do nothing"),
            row | {"now": now},
        )
        last = await session.scalar(
            text("select last from outbox_ticks where job = :job and cron = :cron for update"), row
        )
        passed = times(last, now) if last else []
        for _ in passed:
            await _put(session, tick.task.message())
        if passed:
            await session.execute(
                text("update outbox_ticks set last = :last where job = :job and cron = :cron"),
                row | {"last": passed[-1]},
            )


async def relay(settings: Settings, stopping: asyncio.Event, send: Send) -> None:
    """Send what stands in the outbox until told to stop; several relays may.

    A process of its own: in a worker, a job that kills it could do so before it is known to be
    sent, and would be sent again for ever.
    """
    url = conninfo.make_conninfo(settings.database_url.get_secret_value(), **KEEPALIVE)
    log.info("relay.started")
    while not stopping.is_set():
        try:
            async with await AsyncConnection.connect(url, autocommit=True) as listener:
                await listener.execute("listen outbox")
                while not stopping.is_set():
                    if await _move(send) < BATCH:
                        async for _ in listener.notifies(timeout=POLL_SECONDS, stop_after=1):
                            pass
        except Exception as error:  # the database's or the broker's: what is not sent stays
            log.warning("worker.interrupted", reason=str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)


async def waiting() -> int:
    """How many jobs have not been sent yet."""
    async with transaction() as session:
        return int(await session.scalar(text("select count(*) from outbox")) or 0)


async def _move(send: Send) -> int:
    """Send a batch; it leaves the table once the broker has it."""
    async with transaction() as session:
        rows = (await session.execute(TAKE)).all()
        if rows:
            await send([(str(number), Message(*rest)) for number, *rest in sorted(rows)])
        return len(rows)
