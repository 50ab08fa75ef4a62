"""A cache that all replicas share. It saves work; while Redis is away the work is done."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson

from . import redis
from .resources import Unavailable

CLAIM_SECONDS = 5.0  # longest that others wait for the one who makes the value
LOOK_SECONDS = 0.05

# The value; else 1 for the one caller who is to make it, and nothing for the others.
LOOK = """
local value = redis.call('get', KEYS[1])
if value then return value end
return redis.call('set', KEYS[2], '', 'nx', 'px', ARGV[1]) and 1
"""


async def cached(key: str, seconds: float, make: Callable[[], Awaitable[Any]]) -> Any:
    """The JSON value of a key: kept from an earlier call for at most so many seconds, or made.

    One caller makes it while the others, on whatever replica, wait for it. Values that were made
    at the same moment do not all expire at the same moment.
    """
    value = "cache:{" + key + "}"  # in braces: a server that spreads keys keeps the two together
    claim = f"{value}:claim"
    found = await _look(value, claim)
    if isinstance(found, bytes):
        return orjson.loads(found)
    made = None
    try:
        made = orjson.dumps(await make())
    finally:
        if found:
            with suppress(Unavailable):
                async with redis.commands() as client, client.pipeline() as both:
                    if made:
                        spread = random.uniform(0.9, 1)  # noqa: S311
                        both.set(value, made, px=round(1000 * seconds * spread))
                    both.delete(claim)
                    await both.execute()
    return orjson.loads(made)  # as the next caller gets it, too


async def _look(value: str, claim: str) -> bytes | int | None:
    """What is there or whose turn it is; nothing when Redis is away or the other takes too long."""
    patience = time.monotonic() + CLAIM_SECONDS
    with suppress(Unavailable):
        while time.monotonic() < patience:
            async with redis.commands() as client:
                found: bytes | int | None = await client.eval(
                    LOOK, 2, value, claim, round(1000 * CLAIM_SECONDS)
                )
            if found:
                return found
            await asyncio.sleep(LOOK_SECONDS)
    return None
