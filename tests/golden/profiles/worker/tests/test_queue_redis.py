"""What only the queue in Redis does: it rescues what dead workers have in hand."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import dramatiq
import pytest
import redis as library
from dramatiq.brokers.redis import DEFAULT_DEAD_MESSAGE_TTL
from dramatiq.errors import ConnectionClosed
from redis.asyncio.connection import AbstractConnection

from invoiceflow import queue, queue_redis, redis, redis_jobs, runner
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from tests.pipe import pipe
from tests.queueing import dead, put, working
from tests.running import until

LONG_AGO = 1_000_000_000_000  # milliseconds
QUEUE = redis_jobs.QUEUE
WAITING = redis_jobs.WAITING
DELAYED = f"{WAITING}.DQ"
DEAD = f"{WAITING}.XQ"

Consumer = Any  # the library's, by which a worker takes jobs


@queue.job(attempts=3)
async def note(word: str) -> None:
    pass


begun: list[asyncio.Event] = []
gates: list[asyncio.Event] = []


@queue.job()
async def lasts() -> None:
    begun.append(gates[-1])
    await gates[-1].wait()


def begun_gate() -> asyncio.Event:
    """What the job waits for: it belongs to the loop of this test."""
    gates.append(asyncio.Event())
    return gates[-1]


@pytest.fixture(autouse=True)
async def broker(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[queue_redis.Broker]:
    monkeypatch.setattr(runner, "later", lambda _: 3600)
    async with redis.commands() as client:
        await client.flushdb()
    broker = queue_redis.Broker(attached)
    yield broker
    broker.close()
    async with redis.commands() as client:
        await client.flushdb()


def publish(
    broker: queue_redis.Broker, job: str = note.name, delay: int | None = None, **options: Any
) -> str:
    """Put a job on the queue as the worker finds it; returns its id."""
    values = {"arguments": {"word": "it"}, "context": {}, "key": None}
    message = dramatiq.Message[None](QUEUE, job, (), values, options)
    id: str = broker.enqueue(message, delay=delay).message_id
    return id


async def take(broker: queue_redis.Broker, *, silent: bool = True) -> Consumer:
    """Have what waits in hand, as a worker that falls silent, or that lives."""
    consumer: Consumer = broker.consume(QUEUE, 100)
    assert next(consumer)
    if silent:
        async with redis.commands() as client:
            await client.zadd(queue_redis.HEARTBEATS, {consumer.broker.broker_id: LONG_AGO})
    return consumer


async def at(place: str) -> list[dramatiq.Message[None]]:
    """What waits, is held back or is a dead letter, in its order."""
    async with redis.commands() as client:
        found = client.lrange(place, 0, -1) if place == WAITING else client.zrange(place, 0, -1)
        ids: Any = await found
        messages: Any = await client.hgetall(f"{DEAD if place == DEAD else WAITING}.msgs")
    assert set(ids) <= set(messages)
    return [dramatiq.Message.decode(messages[id]) for id in ids]


async def stored() -> dict[str, int]:
    """How many messages each place stores, those in hand where they waited."""
    async with redis.commands() as client:
        delayed = await client.zcard(DELAYED)
        bodies, dead = [await client.hlen(f"{place}.msgs") for place in (WAITING, DEAD)]
    sizes = {WAITING: bodies - delayed, DELAYED: delayed, DEAD: dead}
    return {place: size for place, size in sizes.items() if size}


async def left(broker: queue_redis.Broker) -> tuple[Any, Any]:
    """The workers that are known, but for the one that published, and what they have in hand."""
    async with redis.commands() as client:
        workers: Any = await client.zrange(queue_redis.HEARTBEATS, 0, -1)
        hands = await client.keys("dramatiq:__acks__*")
    return [worker for worker in workers if worker.decode() != broker.broker_id], hands


@pytest.mark.parametrize(
    ("job", "attempts", "place"),
    [
        (note.name, 0, DELAYED),
        (note.name, 1, DELAYED),
        (note.name, 2, DEAD),
        ("newer.job", 8, DELAYED),
        ("newer.job", 9, DEAD),
    ],
)
async def test_the_job_of_a_dead_worker_is_given_to_others_but_not_for_ever(
    broker: queue_redis.Broker, job: str, attempts: int, place: str
) -> None:
    id = publish(broker, job, attempts=attempts)
    await take(broker)
    await queue_redis._rescue_once(30)

    (rescued,) = await at(place)
    assert rescued.message_id == id
    assert rescued.options["attempts"] == attempts + 1
    assert await stored() == {place: 1}
    assert await left(broker) == ([], [])
    if place == DELAYED:
        # Apart from its neighbours, lest it kill the next worker before they are done.
        async with redis.commands() as client:
            due: Any = await client.zscore(DELAYED, rescued.options["redis_message_id"])
        assert due > (time.time() + 3000) * 1000
        assert rescued.queue_name == QUEUE
    else:
        await queue_redis._rescue_once(30)
        assert len(await at(DEAD)) == 1  # it is not old


async def test_what_was_held_back_waits_again_at_its_time_before_what_came_in_meanwhile(
    broker: queue_redis.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = publish(broker, delay=3_600_000)
    due = publish(broker, delay=0, attempts=1)
    other = publish(broker)

    def away_once() -> None:
        monkeypatch.setattr(queue_redis, "commands", redis.commands)
        raise Unavailable("redis")

    async def released() -> bool:
        return len(await at(WAITING)) == 2

    monkeypatch.setattr(queue_redis, "commands", away_once)
    releasing = asyncio.create_task(queue_redis._release())
    await until(released)
    releasing.cancel()
    assert [message.message_id for message in await at(WAITING)] == [due, other]
    assert [message.message_id for message in await at(DELAYED)] == [held]
    taken = next(broker.consume(QUEUE, 100))
    assert taken.message_id == due  # type: ignore[union-attr]
    assert taken.options["attempts"] == 1  # type: ignore[union-attr]


def test_no_worker_takes_what_is_held_back(broker: queue_redis.Broker) -> None:
    broker.declare_queue(QUEUE)
    assert broker.queues == {QUEUE}
    assert broker.delay_queues == set()  # for each of them a worker would have a consumer


async def test_the_job_of_a_living_worker_is_left_to_it(broker: queue_redis.Broker) -> None:
    publish(broker)
    consumer = await take(broker, silent=False)
    async with redis.commands() as client:
        heartbeat = int((time.time() - 20) * 1000)
        await client.zadd(queue_redis.HEARTBEATS, {consumer.broker.broker_id: heartbeat})
    await queue_redis._rescue_once(30)
    assert await stored() == {WAITING: 1}
    await queue_redis._rescue_once(10)
    assert await stored() == {DELAYED: 1}


async def test_a_worker_that_is_full_counts_as_alive(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = 0
    rescue_once = queue_redis._rescue_once

    async def counted(silence: float) -> None:
        nonlocal rounds
        await rescue_once(silence)
        rounds += 1

    monkeypatch.setattr(queue_redis, "_rescue_once", counted)
    begun.clear()
    gate = begun_gate()
    full = {"worker_concurrency": 1, "worker_stalled_seconds": 1.0}
    await put(lasts)
    async with working(attached.model_copy(update=full)):
        await until(lambda: begun)
        before = rounds
        await until(lambda: rounds > before + 6)  # two seconds of silence, were it silent
        assert await stored() == {WAITING: 1}
        gate.set()


async def test_a_job_that_ends_while_it_is_rescued_is_not_run_again(
    broker: queue_redis.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(broker)
    consumer: Consumer = broker.consume(QUEUE)
    message = next(consumer)
    rescued = queue_redis._rescued

    def meanwhile(*arguments: Any) -> tuple[str, str, int, bytes]:
        consumer.ack(message)
        return rescued(*arguments)

    monkeypatch.setattr(queue_redis, "_rescued", meanwhile)
    await queue_redis._rescue_once(-1)
    assert await at(DELAYED) == []
    assert await stored() == {}


async def test_what_is_done_leaves_the_hand_that_took_it_unless_it_was_rescued(
    broker: queue_redis.Broker,
) -> None:
    for _ in range(3):
        publish(broker)
    consumer: Consumer = broker.consume(QUEUE, 3)
    messages = [next(consumer) for _ in range(3)]
    for message in messages:
        message.consumer = consumer
    broker.consume(QUEUE)  # it has another name
    async with redis.commands() as client:
        hand = f"dramatiq:__acks__.{consumer.broker.broker_id}.{QUEUE}"
        await client.srem(hand, messages[1].options["redis_message_id"])
    await broker.acknowledge(messages)
    assert await stored() == {WAITING: 1}
    assert (await left(broker))[1] == []
    assert consumer.outstanding_message_count == 0


async def test_a_worker_looks_for_dead_ones_again_and_again(
    attached: Settings, broker: queue_redis.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue = queue_redis._rescue_once
    rounds: list[float] = []

    async def counted(silence: float) -> None:
        rounds.append(silence)
        if len(rounds) == 1:
            raise Unavailable("redis")
        await rescue(30)

    async def rescued() -> bool:
        return await stored() == {DELAYED: 1}

    monkeypatch.setattr(queue_redis, "_rescue_once", counted)
    publish(broker)
    await take(broker)
    async with working(attached.model_copy(update={"worker_stalled_seconds": 0.1})):
        await until(rescued)
    assert set(rounds) == {0.1}


async def test_what_a_lost_answer_had_taken_is_rescued_though_its_worker_lives(
    broker: queue_redis.Broker,
) -> None:
    lost = publish(broker)
    before = await take(broker)
    kept = publish(broker)
    after = await take(broker, silent=False)  # as the library starts a consumer again
    assert before.broker.broker_id != after.broker.broker_id
    await queue_redis._rescue_once(30)

    assert [message.message_id for message in await at(DELAYED)] == [lost]
    assert await stored() == {DELAYED: 1, WAITING: 1}
    async with redis.commands() as client:
        hand = f"dramatiq:__acks__.{after.broker.broker_id}.{QUEUE}"
        (own,) = await client.smembers(hand)
        data: Any = await client.hget(f"{WAITING}.msgs", own)
    assert dramatiq.Message.decode(data).message_id == kept


async def test_many_jobs_of_a_dead_worker_are_asked_for_as_often_as_one(
    broker: queue_redis.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    send = AbstractConnection.send_packed_command

    async def counted(self: AbstractConnection, command: Any, **options: Any) -> None:
        sent.append(command)
        await send(self, command, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    asked = []
    for jobs in (1, 30):
        for _ in range(jobs):
            publish(broker)
        await take(broker)
        sent.clear()
        await queue_redis._rescue_once(30)
        asked.append(len(sent))
    assert asked[0] == asked[1] > 0
    assert await stored() == {DELAYED: 31}


async def test_what_is_in_hand_without_a_message_is_forgotten(broker: queue_redis.Broker) -> None:
    publish(broker)
    await take(broker)
    async with redis.commands() as client:
        await client.delete(f"{WAITING}.msgs")
    await queue_redis._rescue_once(30)
    assert await left(broker) == ([], [])


async def test_old_dead_letters_go(broker: queue_redis.Broker) -> None:
    for attempts in (2, 2):
        publish(broker, attempts=attempts)
    await take(broker)
    await queue_redis._rescue_once(30)
    old, young = await at(DEAD)
    moment = time.time() * 1000 - DEFAULT_DEAD_MESSAGE_TTL
    async with redis.commands() as client:
        await client.zadd(DEAD, {str(old.options["redis_message_id"]): moment - 1000})
        await client.zadd(DEAD, {str(young.options["redis_message_id"]): moment + 60_000})
    await queue_redis._rescue_once(30)

    assert await at(DEAD) == [young]
    assert await stored() == {DEAD: 1}


async def test_the_newest_dead_letters_come_first_and_one_is_put_back_as_new(
    attached: Settings, broker: queue_redis.Broker
) -> None:
    for _ in range(3):
        publish(broker, attempts=2)
    await take(broker)
    await queue_redis._rescue_once(30)
    buried = await at(DEAD)
    ids = [letter.message_id for letter in buried]
    now = time.time() * 1000
    async with redis.commands() as client:
        for number, letter in enumerate(buried):
            await client.zadd(DEAD, {str(letter.options["redis_message_id"]): now + number})
    letters = await queue_redis.dead_letters(attached, 2)
    assert letters == [runner.DeadLetter(id, note.name, {"word": "it"}) for id in ids[:0:-1]]

    assert await queue_redis.replay(attached, [ids[1], "none"]) == 1
    (replayed,) = await at(WAITING)
    assert replayed.message_id == ids[1]
    assert replayed.options.keys() == {"redis_message_id"}
    assert set(await dead(attached)) == {ids[0], ids[2]}
    assert await stored() == {WAITING: 1, DEAD: 2}
    assert await queue_redis.replay(attached, [ids[1]]) == 0


async def test_of_two_replays_one_puts_a_dead_letter_back(
    attached: Settings, broker: queue_redis.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = publish(broker, attempts=2)
    await take(broker)
    await queue_redis._rescue_once(30)
    decode = dramatiq.Message.decode

    def meanwhile(data: bytes) -> dramatiq.Message[None]:
        broker.client.delete(DEAD)
        return decode(data)

    monkeypatch.setattr(dramatiq.Message, "decode", meanwhile)
    assert await queue_redis.replay(attached, [id]) == 0
    assert await at(WAITING) == []


async def test_the_depth_counts_what_waits_wherever_it_does(
    attached: Settings, broker: queue_redis.Broker
) -> None:
    before = await queue_redis.depth(attached)
    publish(broker)
    publish(broker, delay=3_600_000)
    after = await queue_redis.depth(attached)
    assert (after.waiting - before.waiting, after.dead) == (2, 0)


async def test_a_server_that_hangs_counts_as_lost(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_redis, "ANSWER_SECONDS", 0.2)
    async with pipe(attached.redis_url.get_secret_value()) as between:
        values = attached.model_dump() | {"redis_url": between.url}
        broker = queue_redis.Broker(Settings(**values))
        consumer = broker.consume(QUEUE)
        await asyncio.to_thread(next, consumer)
        between.hang()
        with pytest.raises(ConnectionClosed):
            await asyncio.to_thread(next, consumer)
        broker.close()


def test_a_command_whose_answer_got_lost_is_not_sent_again(
    broker: queue_redis.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = broker.client
    client.rpush("list", "one", "other")
    read = library.Connection.read_response
    lost = [library.ConnectionError("lost")]

    def lose(self: library.Connection, *args: Any, **options: Any) -> Any:
        answer = read(self, *args, **options)
        if lost:
            raise lost.pop()
        return answer

    monkeypatch.setattr(library.Connection, "read_response", lose)
    with pytest.raises(library.ConnectionError):
        client.lpop("list")
    assert client.llen("list") == 1
