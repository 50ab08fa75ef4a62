"""Jobs on their way into Redis, without the weight of the library that takes them out."""

import time
import uuid
from collections.abc import Sequence

import orjson

from .redis import commands
from .runner import Message

QUEUE = str(__package__)  # services may share a server
NAMESPACE = "dramatiq"
WAITING = f"{NAMESPACE}:{QUEUE}"

# All of the jobs or none, and none if a field of a hash is not what it was believed to be.
PUT = """
local field, expected, new = ARGV[1], ARGV[2], ARGV[3]
if field ~= '' then
    if (redis.call('hget', KEYS[3], field) or '') ~= expected then return 0 end
    redis.call('hset', KEYS[3], field, new)
end
for i = 4, #ARGV, 2 do
    redis.call('hset', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('rpush', KEYS[1], ARGV[i])
end
return 1
"""


async def put(
    jobs: Sequence[tuple[str, Message]], *, unless: tuple[str, str, str, str] | None = None
) -> bool:
    """Put jobs on the queue under these ids.

    unless: a hash, a field, its expected value and its new one; False if it is another now.
    """
    hash, *values = unless or ("", "", "", "")
    sent: list[str | bytes] = []
    for id, job in jobs:
        own = str(uuid.uuid4())
        sent += [own, _encode(id, own, job)]
    async with commands() as client:
        return bool(
            await client.eval(PUT, 3, WAITING, f"{WAITING}.msgs", hash or WAITING, *values, *sent)
        )


def _encode(id: str, own: str, job: Message) -> bytes:
    """As dramatiq writes its messages."""
    return orjson.dumps(
        {
            "queue_name": QUEUE,
            "actor_name": job.job,
            "args": [],
            "kwargs": {"arguments": job.arguments, "context": job.context, "key": job.key},
            "options": {"redis_message_id": own},
            "message_id": id,
            "message_timestamp": int(time.time() * 1000),
        }
    )
