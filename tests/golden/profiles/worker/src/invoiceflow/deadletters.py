"""Dead letters (factor XII), the jobs that failed for good: `deadletters`, `deadletters replay ID`.

Lists them as lines of JSON, or puts some back on the queue: those named, or `all`.
"""

import asyncio
import sys

import orjson
import structlog

from . import queue_redis, resources
from .config import Settings

MOST = 1000  # listed at once, and replayed by `all`

log = structlog.get_logger()


def main(settings: Settings) -> int:
    command, ids = sys.argv[2:3], sys.argv[3:]
    if command not in ([], ["replay"]) or bool(command) != bool(ids):
        hint = "Say nothing to list the dead letters, or: replay ID..., replay all."
        log.error("deadletters.misunderstood", hint=hint)
        return 2
    return asyncio.run(_main(settings, ids))


async def _main(settings: Settings, ids: list[str]) -> int:
    async with resources.attach(settings):
        if not ids:
            for letter in await queue_redis.dead_letters(settings, MOST):
                sys.stdout.buffer.write(orjson.dumps(letter._asdict()) + b"\n")
            return 0
        if ids == ["all"]:
            ids = [letter.id for letter in await queue_redis.dead_letters(settings, MOST)]
        replayed = await queue_redis.replay(settings, ids)
        log.info("deadletters.replayed", asked=len(ids), replayed=replayed)
        return 0 if replayed == len(ids) else 1
