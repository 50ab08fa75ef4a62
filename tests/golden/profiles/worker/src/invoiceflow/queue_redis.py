"""Jobs in Redis or Valkey: it must append to a file and evict nothing, or it may lose some."""

import asyncio
import copy
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import dramatiq
import redis
import structlog
from dramatiq.broker import Consumer
from dramatiq.brokers.redis import DEFAULT_DEAD_MESSAGE_TTL, RedisBroker
from dramatiq.common import dq_name, xq_name
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import direct, queue_dramatiq, redis_jobs, runner
from .config import Settings
from .queue_dramatiq import Patient, again, dead_letter
from .redis import commands
from .redis_jobs import NAMESPACE, QUEUE, WAITING
from .resources import Unavailable
from .runner import DeadLetter, Depth, Send
from .ticks import tick

__all__ = ["dead_letters", "depth", "replay", "sending", "serve", "tick"]

ANSWER_SECONDS = 5

HEARTBEATS = f"{NAMESPACE}:__heartbeats__"
BODIES = f"{WAITING}.msgs"
"""What waits, is held back or in hand."""
DELAYED = dq_name(WAITING)
"""What is held back, by the time until when; in no hand, so that no worker dies with it."""
DEAD = xq_name(WAITING)

# Move a message from what a dead worker had in hand to where it is held back, or to the dead
# letters, whole or not at all.
RESCUE = """
if redis.call('srem', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('hdel', KEYS[2], ARGV[1])
redis.call('zadd', KEYS[3], ARGV[3], ARGV[1])
redis.call('hset', KEYS[4], ARGV[1], ARGV[2])
return 1
"""
# Let what was held back wait again, before what came in meanwhile.
RELEASE = """
for _, own in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1], 'limit', 0, 1000)) do
    redis.call('zrem', KEYS[1], own)
    redis.call('lpush', KEYS[2], own)
end
"""
# Forget what is done, unless another has it by now.
ACKNOWLEDGE = """
for _, own in ipairs(ARGV) do
    if redis.call('srem', KEYS[1], own) == 1 then redis.call('hdel', KEYS[2], own) end
end
"""
REPLAY = """
if redis.call('zrem', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('hdel', KEYS[1] .. '.msgs', ARGV[1])
redis.call('hset', KEYS[2] .. '.msgs', ARGV[1], ARGV[2])
redis.call('rpush', KEYS[2], ARGV[1])
return 1
"""

log = structlog.get_logger()


class Client(redis.Redis):
    """Says that a connection failed when it is slow too: the library goes by that error."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.TimeoutError as error:
            raise redis.ConnectionError(str(error)) from error


class Holding(RedisBroker):
    """dramatiq's, but for what is held back: its workers would keep that in their memory."""

    def declare_queue(self, queue_name: str) -> None:
        self.queues.add(queue_name)
        self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        if delay is None:
            return super().enqueue(message)
        own = str(uuid.uuid4())
        message = message.copy(options={"redis_message_id": own})
        self.emit_before("enqueue", message, delay)
        with self.client.pipeline() as pipe:  # both or none
            pipe.hset(BODIES, own, message.encode())
            pipe.zadd(DELAYED, {own: int(time.time() * 1000) + delay})
            pipe.execute()
        return message


class Broker(Patient, Holding):
    """dramatiq's, with a rescue of its own, which counts how often a job's worker died."""

    def __init__(self, settings: Settings) -> None:
        client = Client.from_url(
            settings.redis_url.get_secret_value(),
            # A command that is sent twice takes messages twice: the first ones would be lost.
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=ANSWER_SECONDS,
            socket_keepalive=True,
            socket_timeout=ANSWER_SECONDS,
        )
        super().__init__(  # type: ignore[no-untyped-call]
            client=client, maintenance_chance=0, middleware=[], namespace=NAMESPACE
        )
        self.names: dict[str, str] = {}

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """A consumer under a new name: what an answer that got lost had taken stays with the old
        one, which counts as dead before long."""
        own = copy.copy(self)
        own.broker_id = self.names[queue_name] = str(uuid.uuid4())
        return super(Broker, own).consume(queue_name, prefetch, timeout)

    async def acknowledge(self, messages: Iterable[Any]) -> None:
        hands = defaultdict(list)
        for message in messages:
            name = message.consumer.broker.broker_id
            hands[_hand(name)].append(message.options["redis_message_id"])
        async with commands() as client:
            for hand, own in hands.items():
                await client.eval(ACKNOWLEDGE, 2, hand, BODIES, *own)
        for message in messages:
            message.consumer.queued_message_ids.discard(message.message_id)

    def close(self) -> None:
        self.client.close()


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Run jobs until told to stop."""
    if await runner.reached(stopping):
        broker = Broker(settings)
        beside = [_rescue(settings), _release(), _beat(settings, broker)]
        await queue_dramatiq.serve(settings, stopping, broker, QUEUE, beside)


@asynccontextmanager
async def sending(_: Settings) -> AsyncIterator[Send]:
    """What puts jobs on the queue."""
    yield redis_jobs.put


async def dead_letters(_: Settings, limit: int) -> list[DeadLetter]:
    """The newest jobs that failed for good."""
    async with commands() as client:
        ids: Any = await client.zrevrange(DEAD, 0, limit - 1)
        found: Any = await client.hmget(f"{DEAD}.msgs", ids) if ids else []
    return [dead_letter(dramatiq.Message.decode(data)) for data in found if data]


async def replay(_: Settings, ids: list[str]) -> int:
    """Put dead letters back on the queue, as new; returns how many there were."""
    replayed = 0
    async with commands() as client:
        letters: Any = await client.hgetall(f"{DEAD}.msgs")
        for own, data in letters.items():
            letter: dramatiq.Message[None] = dramatiq.Message.decode(data)
            if letter.message_id in ids:
                options = {"redis_message_id": own.decode()}
                data = dramatiq.Message(**letter.asdict() | {"options": options}).encode()
                replayed += await client.eval(REPLAY, 2, DEAD, WAITING, own, data)
    return replayed


async def depth(_: Settings) -> Depth:
    async with commands() as client, client.pipeline(transaction=False) as pipe:
        pipe.llen(WAITING)
        pipe.zcard(DELAYED)
        pipe.zcard(DEAD)
        waiting, delayed, dead = await pipe.execute()
    return Depth(await direct.waiting() + waiting + delayed, dead)


async def _beat(settings: Settings, broker: Broker) -> None:
    """Say that this worker lives: the library says so when it fetches, and not when it is full."""
    while True:
        with suppress(Unavailable):
            async with commands() as client:
                now = int(time.time() * 1000)
                if names := dict.fromkeys(list(broker.names.values()), now):
                    await client.zadd(HEARTBEATS, names)
        await asyncio.sleep(settings.worker_stalled_seconds / 3)


async def _rescue(settings: Settings) -> None:
    """Give the jobs of dead workers to others; one that keeps killing its worker fails."""
    while True:
        try:
            await _rescue_once(settings.worker_stalled_seconds)
        except Unavailable as error:
            log.warning("worker.interrupted", reason=str(error))
        await asyncio.sleep(settings.worker_stalled_seconds / 3)


async def _rescue_once(silence: float) -> None:
    now = int(time.time() * 1000)
    async with commands() as client:
        silent: Any = await client.zrangebyscore(HEARTBEATS, 0, now - int(silence * 1000))
        old: Any = await client.zrangebyscore(DEAD, 0, now - DEFAULT_DEAD_MESSAGE_TTL)
        if old:
            await client.zrem(DEAD, *old)
            await client.hdel(f"{DEAD}.msgs", *old)
    for name in silent:
        hand = _hand(name.decode())
        # All that it had at once: a command each would take longer than the commands may.
        async with commands() as client:
            owns: Any = list(await client.smembers(hand))
            found: Any = await client.hmget(BODIES, owns) if owns else []
            async with client.pipeline(transaction=False) as pipe:
                for own, data in zip(owns, found, strict=True):
                    if data is None:
                        pipe.srem(hand, own)
                        continue
                    to, bodies, score, data = _rescued(data, now)
                    pipe.eval(RESCUE, 4, hand, BODIES, to, bodies, own, data, score)
                await pipe.execute()
            await client.zrem(HEARTBEATS, name)


async def _release() -> None:
    """Let others take what was held back until now."""
    while True:
        with suppress(Unavailable):
            async with commands() as client:
                await client.eval(RELEASE, 2, DELAYED, WAITING, int(time.time() * 1000))
        await asyncio.sleep(queue_dramatiq.IDLE_MILLISECONDS / 1000)


def _hand(name: str) -> str:
    """What the consumer of this name has taken."""
    return f"{NAMESPACE}:__acks__.{name}.{QUEUE}"


def _rescued(data: bytes, now: int) -> tuple[str, str, int, bytes]:
    """Where a dead worker's message goes, and its body, by which time, and how it reads there."""
    job = dramatiq.Message.decode(data)
    delay = again(job)
    event = "job.failed" if delay is None else "job.rescued"
    log.warning(event, job=job.actor_name, job_id=job.message_id)
    if delay is None:
        return DEAD, f"{DEAD}.msgs", now, job.encode()
    # Apart from its neighbours, lest it kill the next worker before they are done.
    return DELAYED, BODIES, now + delay, job.encode()
