"""Jobs whose every start and end is kept, and whose effect counts once."""

import asyncio
import itertools
import os
import signal
import time
from functools import cache

import structlog

from ..queue import job
from . import store

numbers = itertools.count(1)


@job(attempts=10, seconds=60)
async def work(key: str, seconds: float) -> None:
    await traced(key, seconds)


@job()
async def tick() -> None:
    await traced(f"tick-{structlog.contextvars.get_contextvars()['job_id']}", 0)


@job(attempts=3)
async def poison() -> None:
    note("start", next(numbers), "poison")
    os.kill(os.getpid(), signal.SIGKILL)


async def traced(key: str, seconds: float) -> None:
    """Take so long, then have an effect, unless another attempt has had it."""
    number, end = next(numbers), "failed"
    note("start", number, key)
    try:
        await asyncio.sleep(seconds)
        end = "counted" if await store.count(key) else "again"
    finally:
        note(end, number, key)


def note(word: str, number: int, key: str) -> None:
    """One write a line, into a file of this process: a kill takes no line back."""
    attempt = structlog.contextvars.get_contextvars().get("attempt", 0)
    os.write(_file(), f"{time.time():.6f} {word} {number} {attempt} {key}\n".encode())


@cache
def _file() -> int:
    path = os.path.join(os.environ["TRACES"], str(os.getpid()))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
