"""What the tests of the queue share: a worker in this process, and jobs for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from invoiceflow import parts, queue_redis, resources
from invoiceflow.config import Settings

from tests.running import COMMANDS

RELAY = [import_module("invoiceflow.relay").serve] if "relay" in COMMANDS else []
URL = "REDIS_URL"
"""The variable that points at the broker."""


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[asyncio.Event]:
    """A worker as long as the block runs; the event stops it before."""
    stopping = asyncio.Event()
    serving = [queue_redis.serve, *RELAY]
    tasks = [asyncio.create_task(serve(settings, stopping)) for serve in serving]
    try:
        yield stopping
    finally:
        stopping.set()
        await asyncio.gather(*tasks)


async def put(job: Any, *args: object) -> str:
    """Enqueue a job, in a transaction where there is a database."""
    if "postgres" in parts.RESOURCES:
        (postgres,) = resources.load(["postgres"])
        async with postgres.transaction() as session:
            return str(await job.enqueue(session, *args))
    return str(await job.enqueue(*args))


async def empty(settings: Settings) -> bool:
    return (await queue_redis.depth(settings)).waiting == 0


async def dead(settings: Settings) -> dict[str, str]:
    """Dead letters: job by id."""
    letters = await queue_redis.dead_letters(settings, 1000)
    return {letter.id: letter.job for letter in letters}
