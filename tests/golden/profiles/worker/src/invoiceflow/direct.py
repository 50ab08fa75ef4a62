"""Jobs go to Redis as they are enqueued, where there is no database whose transaction to join."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .redis import commands
from .redis_jobs import QUEUE, put
from .runner import P, Task, Tick

KEYS = f"{QUEUE}:jobs:keys"
TICKS = f"{QUEUE}:jobs:ticks"
STARTED = """
if redis.call('hget', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('hdel', KEYS[1], ARGV[1]) end
"""


class Job(Task[P]):
    """A job that goes to the queue at once."""

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Put it on the queue; returns its id, or None if one waits under its key already."""
        message = self.message(*args, **kwargs)
        id = str(uuid.uuid4())
        free = (KEYS, message.key, "", id) if message.key else None
        return id if await put([(id, message)], unless=free) else None


async def started(message_id: str, key: str) -> None:
    """From here on another job may wait under this key."""
    async with commands() as client:
        await client.eval(STARTED, 1, KEYS, key, message_id)


async def due(tick: Tick, times: Callable[[datetime, datetime], list[datetime]]) -> None:
    """Enqueue a job for each of its times that has passed, whoever else does the same."""
    name = f"{tick.task.name} {tick.cron}"
    now = datetime.now(UTC)
    async with commands() as client:
        await client.hsetnx(TICKS, name, now.isoformat())
        seen: Any = await client.hget(TICKS, name)
        last = seen.decode()
    if passed := times(datetime.fromisoformat(last), now):
        jobs = [(str(uuid.uuid4()), tick.task.message()) for _ in passed]
        await put(jobs, unless=(TICKS, name, last, passed[-1].isoformat()))


async def waiting() -> int:
    """How many jobs have not been sent yet."""
    return 0
