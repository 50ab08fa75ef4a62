"""Effects in Redis: a unique key in the same script as the effect."""

import os
from typing import Any

from redis.asyncio import Redis

ONCE = """
if redis.call('sadd', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('rpush', KEYS[2], ARGV[1])
return 1
"""

redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=5)


async def make() -> None:
    await redis.ping()


async def count(key: str) -> bool:
    """Have the effect; False if it was there before."""
    return bool(await redis.eval(ONCE, 2, "trial:effects", "trial:ledger", key))


async def enqueue(job: Any, *arguments: Any) -> None:
    await job.enqueue(*arguments)


async def told() -> dict[str, list[str]]:
    """Every effect as often as it counted."""
    return {"effects": await redis.lrange("trial:ledger", 0, -1), "orders": []}
