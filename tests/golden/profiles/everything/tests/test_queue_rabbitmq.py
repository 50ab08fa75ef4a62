"""What only the queue in RabbitMQ does: its queues, its redeliveries, its publisher."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import dramatiq
import pika  # type: ignore[import-untyped]
import pytest
import structlog
from dramatiq.errors import ConnectionClosed
from structlog.testing import capture_logs

from invoiceflow import queue, queue_dramatiq, queue_rabbitmq, runner
from invoiceflow.config import Settings

from tests.pipe import pipe
from tests.queueing import dead, working
from tests.running import SECONDS, until

seen: list[str] = []
gate = asyncio.Event()


@queue.job(attempts=3)
async def note(word: str) -> None:
    seen.append(f"{word}, attempt {structlog.contextvars.get_contextvars()['attempt']}")


@queue.job()
async def held(word: str) -> None:
    seen.append(word)
    await gate.wait()


@pytest.fixture(autouse=True)
def broker(attached: Settings) -> Iterator[queue_rabbitmq.Broker]:
    global gate
    seen.clear()
    gate = asyncio.Event()
    with closing(queue_rabbitmq.Broker(attached)) as broker:
        broker.declare_queue(broker.jobs, ensure=True)
        flush(broker)
        yield broker
        flush(broker)


def flush(broker: queue_rabbitmq.Broker) -> None:
    broker.flush(broker.jobs)
    broker.channel.queue_purge(broker.again)


def publish(broker: queue_rabbitmq.Broker, word: str, job: str = note.name, **options: Any) -> str:
    """Put a job on the queue as the worker finds it; returns its id."""
    values = {"arguments": {"word": word}, "context": {}, "key": None}
    message = dramatiq.Message[None](broker.jobs, job, (), values, options)
    return broker.enqueue(message).message_id


def counts(broker: queue_rabbitmq.Broker) -> tuple[int, int, int]:
    """How many wait, are held back, and are dead letters."""
    found: tuple[int, int, int] = broker.get_queue_message_counts(broker.jobs)
    return found


def take(settings: Settings, broker: queue_rabbitmq.Broker) -> None:
    """Have what waits in hand, and die."""
    with closing(pika.BlockingConnection(queue_rabbitmq.Broker(settings).parameters)) as other:
        channel = other.channel()
        while channel.basic_get(broker.jobs)[0]:
            pass


@pytest.mark.parametrize(
    ("suffix", "other", "kind"),
    [
        ("", "classic", "quorum"),
        (".again", "classic", "quorum"),
        (".DQ", "classic", "quorum"),
        (".XQ", "quorum", "classic"),
    ],
)
def test_jobs_wait_in_quorum_queues_and_dead_letters_in_a_classic_one(
    broker: queue_rabbitmq.Broker, suffix: str, other: str, kind: str
) -> None:
    arguments = broker._build_queue_arguments(broker.jobs)
    if suffix == ".XQ":
        arguments = {"x-message-ttl": 7 * 24 * 3600 * 1000}  # dead letters go after a week
    arguments["x-queue-type"] = other
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match=f"current is.* '{kind}'"):
        broker.channel.queue_declare(broker.jobs + suffix, durable=True, arguments=arguments)


async def test_the_job_of_a_dead_worker_is_counted_and_held_back(
    attached: Settings, broker: queue_rabbitmq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "later", lambda _: 3600)
    publish(broker, "left behind")
    take(attached, broker)
    with capture_logs() as lines:
        async with working(attached):
            await until(lambda: "job.rescued" in {line["event"] for line in lines})

    assert counts(broker) == (0, 1, 0)
    _, _, body = broker.channel.basic_get(f"{broker.jobs}.DQ", auto_ack=True)
    options = dramatiq.Message.decode(body).options
    assert options["attempts"] == 1
    assert options["eta"] > (time.time() + 3000) * 1000
    assert seen == []


async def test_the_job_of_a_dead_worker_is_run_again_but_not_for_ever(
    attached: Settings, broker: queue_rabbitmq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "later", lambda _: 0)
    publish(broker, "again", attempts=1)
    last = publish(broker, "last", attempts=2)
    take(attached, broker)

    async def buried() -> bool:
        return last in await dead(attached)

    with capture_logs() as lines:
        async with working(attached):
            await until(buried)
            await until(lambda: seen)
    assert seen == ["again, attempt 3"]
    assert counts(broker) == (0, 0, 1)
    assert [line["event"] for line in lines].count("job.failed") == 1


def test_what_a_worker_received_and_did_not_begin_is_sent_anew(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    for word in "abc":
        publish(broker, word)
    with closing(queue_rabbitmq.WorkerBroker(attached)) as own:
        consumer: Any = own.consume(own.jobs, prefetch=3)
        assert next(consumer)
        while consumer.channel.get_waiting_message_count() < 2:
            consumer.connection.process_data_events(1)
        consumer.requeue([])
        consumer.close()
    assert broker.channel.basic_get(broker.jobs)[0].redelivered
    assert not any(broker.channel.basic_get(broker.again)[0].redelivered for _ in range(2))


async def test_what_is_done_when_its_connection_is_lost_is_delivered_again(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    publish(broker, "done")
    with closing(queue_rabbitmq.WorkerBroker(attached)) as own:
        consumer: Any = own.consume(own.jobs)
        message = next(consumer)
        message.consumer = consumer
        consumer.connection.close()
        await own.acknowledge([message])
    await until(lambda: counts(broker) == (1, 0, 0))


async def test_what_a_worker_puts_back_goes_through_one_connection(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    message = dramatiq.Message[None](broker.jobs, note.name, (), {}, {})
    with closing(queue_rabbitmq.WorkerBroker(attached)) as own:
        put_back = partial(own.enqueue, message)
        await asyncio.gather(*(queue_dramatiq.in_thread(put_back) for _ in range(5)))
        assert len(own.connections) == 1
    assert counts(broker) == (5, 0, 0)


async def test_what_a_dead_worker_left_comes_before_what_is_newer(
    attached: Settings, broker: queue_rabbitmq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "later", lambda _: 0)
    made: list[queue_dramatiq.Jobs] = []

    class Jobs(queue_dramatiq.Jobs):
        def __init__(self, *values: Any) -> None:
            super().__init__(*values)
            made.append(self)

    monkeypatch.setattr(queue_dramatiq, "Jobs", Jobs)
    publish(broker, "left behind")
    take(attached, broker)
    for word in ("in hand", "newer"):
        publish(broker, word, held.name)

    async def all_wait() -> bool:
        return counts(broker) == (2, 0, 0)

    async with working(attached.model_copy(update={"worker_concurrency": 1})):
        await until(lambda: seen)
        await until(all_wait)
        await until(lambda: made[0].due)  # to look for it, as soon as there is room
        gate.set()
        await until(lambda: len(seen) == 3)
    assert seen == ["in hand", "left behind, attempt 2", "newer"]


async def test_what_a_worker_gives_back_is_tried_again(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    id = publish(broker, "in hand", held.name)
    async with working(attached.model_copy(update={"grace_seconds": 0})):
        await until(lambda: seen)
    method, _, body = broker.channel.basic_get(broker.again)
    assert not method.redelivered
    assert dramatiq.Message.decode(body).message_id == id


@pytest.mark.parametrize("lost", ["channel", "connection"])
async def test_who_asks_for_what_is_tried_again_is_answered_though_the_consumer_is_lost(
    attached: Settings, lost: str
) -> None:
    with closing(queue_rabbitmq.WorkerBroker(attached)) as own:
        worker: Any = SimpleNamespace(consumers={})
        assert await own.first(worker) is None
        consumer: Any = own.consume(own.jobs)
        worker.consumers[own.jobs] = SimpleNamespace(consumer=consumer)
        asked = asyncio.create_task(own.first(worker))
        await until(lambda: consumer.asked)
        getattr(consumer, lost).close()
        with suppress(ConnectionClosed):
            consumer.close()
        async with asyncio.timeout(SECONDS):
            assert await asked is None
            assert await own.first(worker) is None


async def test_what_fails_when_it_is_tried_again_is_replayed_as_new(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    with closing(queue_rabbitmq.WorkerBroker(attached)) as own:
        id = publish(own, "again", "newer.job", attempts=9)

    async def buried() -> bool:
        return id in await dead(attached)

    with capture_logs() as lines:
        async with working(attached):
            await until(buried)
    assert [line["job"] for line in lines if line["event"] == "job.unknown"] == ["newer.job"]
    assert await queue_rabbitmq.replay(attached, [id]) == 1
    _, _, body = broker.channel.basic_get(broker.jobs, auto_ack=True)
    assert dramatiq.Message.decode(body).message_id == id


async def test_what_is_sent_is_persistent_and_finds_its_queue_again(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    async with queue_rabbitmq.sending(attached) as send:
        await send([("1", runner.Message(note.name, {"word": "kept"}, {}))])
        _, properties, _ = broker.channel.basic_get(broker.jobs)
        assert properties.delivery_mode == pika.DeliveryMode.Persistent.value
        broker.channel.queue_delete(broker.jobs)
        await send([("2", runner.Message(note.name, {"word": "not lost"}, {}))])
    assert counts(broker) == (1, 0, 0)


async def test_a_publisher_outlives_a_pause_in_which_it_answers_no_heartbeat(
    attached: Settings, broker: queue_rabbitmq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_rabbitmq, "HEARTBEAT_SECONDS", 1)
    job = runner.Message(note.name, {"word": "kept"}, {})
    async with pipe(attached.rabbitmq_url.get_secret_value()) as between:
        values = attached.model_dump() | {"rabbitmq_url": between.url}
        async with queue_rabbitmq.sending(Settings(**values)) as send:
            await send([("1", job)])
            await send([("2", job)])
            assert len(between._writers) == 2  # the two ends of one connection
            await until(lambda: not between._writers)  # the server has given it up
            await send([("3", job), ("4", job)])
    assert counts(broker) == (4, 0, 0)


def test_a_publisher_uses_no_connection_that_was_idle_for_long(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Any = SimpleNamespace(monotonic=lambda: clock.now, now=0)
    monkeypatch.setattr(queue_rabbitmq, "time", clock)
    connections = []
    with closing(queue_rabbitmq.Publisher(attached)) as publisher:
        for clock.now in (1, 9, 18, 30):
            publisher.publish([("1", runner.Message(note.name, {"word": "kept"}, {}))])
            connections.append(publisher.connection)
    first, second, third, fourth = connections
    assert first is second is third is not fourth


async def test_a_server_that_hangs_is_not_waited_for(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_rabbitmq, "ANSWER_SECONDS", 0.2)
    async with pipe(attached.rabbitmq_url.get_secret_value()) as between:
        between.hang()
        values = attached.model_dump() | {"rabbitmq_url": between.url}
        with pytest.raises(Exception, match="Timeout"):
            await queue_rabbitmq.dead_letters(Settings(**values), 1)


async def test_dead_letters_are_there_however_often_they_are_looked_at(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    ids = [publish(broker, word, "newer.job", attempts=7) for word in "abc"]

    async def buried() -> bool:
        return len(await dead(attached)) == 3

    async with working(attached):
        await until(buried)
    for _ in range(30):
        await queue_rabbitmq.dead_letters(attached, 1000)
    first = await queue_rabbitmq.dead_letters(attached, 2)
    assert first == [
        runner.DeadLetter(id, "newer.job", {"word": word})
        for id, word in zip(ids[:2], "ab", strict=True)
    ]

    assert await queue_rabbitmq.replay(attached, [ids[2], "none"]) == 1
    assert counts(broker) == (1, 0, 2)
    _, _, body = broker.channel.basic_get(broker.jobs, auto_ack=True)
    message = dramatiq.Message.decode(body)
    assert (message.message_id, message.options) == (ids[2], {})


async def test_the_depth_counts_what_waits_wherever_it_does(
    attached: Settings, broker: queue_rabbitmq.Broker
) -> None:
    before = await queue_rabbitmq.depth(attached)
    publish(broker, "waits")
    broker.enqueue(dramatiq.Message(broker.jobs, note.name, (), {}, {}), delay=3_600_000)
    after = await queue_rabbitmq.depth(attached)
    assert (after.waiting - before.waiting, after.dead) == (2, 0)
