"""What the queue does the same on RabbitMQ and Redis."""

import asyncio
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest
import structlog
from dramatiq.broker import Broker
from structlog.testing import capture_logs

from invoiceflow import outbox, queue, queue_dramatiq, queue_rabbitmq, runner
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from tests.queueing import empty, put, working
from tests.running import until

WORKS: Any = getattr(queue_rabbitmq, "WorkerBroker", queue_rabbitmq.Broker)
"""The broker of a worker."""

SENDS: Any = WORKS.__mro__[WORKS.__mro__.index(queue_dramatiq.Patient) + 1]
"""The one below it, which tries only once."""

seen: list[str] = []
gate = asyncio.Event()


@queue.job()
async def strike() -> None:
    seen.append("strike")


@queue.job()
async def note(word: str) -> None:
    seen.append(word)


@queue.job()
async def tell() -> None:
    seen.append(str(structlog.contextvars.get_contextvars().get("request_id")))


@queue.job()
async def stumble() -> None:
    seen.append("stumble")
    if len(seen) < 2:
        raise RuntimeError("once")


@queue.job()
async def holds() -> None:
    seen.append("held")
    await gate.wait()


async def waiting(settings: Settings) -> int:
    return (await queue_rabbitmq.depth(settings)).waiting


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    global gate
    seen.clear()
    gate = asyncio.Event()
    monkeypatch.setattr(runner, "later", lambda _: 0)
    monkeypatch.setattr(queue_dramatiq, "RETRY_SECONDS", 0)


def test_a_consumer_that_waits_to_connect_again_holds_up_no_stop() -> None:
    assert queue.STOP_SECONDS / 2 > dramatiq.worker.CONSUMER_RESTART_DELAY_SECS


async def test_a_worker_takes_no_more_than_it_runs(attached: Settings) -> None:
    async with working(attached):
        await until(lambda: empty(attached))  # whatever another test has left
    for _ in range(3):
        await put(holds)

    async def two_wait() -> bool:
        return await waiting(attached) == 2

    async with working(attached.model_copy(update={"worker_concurrency": 1})):
        await until(lambda: seen)
        await until(two_wait)
        assert seen == ["held"]
        gate.set()
        await until(lambda: seen == ["held"] * 3)


async def test_a_job_that_starts_frees_only_its_own_key(attached: Settings) -> None:
    mine = note.once("mine")
    id, other = await put(mine, "first"), await put(note.once("other"), "other")
    await outbox.started(other, str(mine.key))
    assert await put(mine, "second") == "None"
    await outbox.started(id, str(mine.key))
    assert await put(mine, "third") != "None"
    async with working(attached):
        await until(lambda: sorted(seen) == ["first", "other", "third"])


async def test_a_retry_that_cannot_be_sent_is_held_until_it_can(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = SENDS.enqueue
    failures = [RuntimeError("away"), OSError("away")]

    def fail(self: Broker, message: object, *, delay: int | None = None) -> object:
        if delay is not None and failures:
            raise failures.pop()
        return enqueue(self, message, delay=delay)

    monkeypatch.setattr(SENDS, "enqueue", fail)
    id = await put(stumble)
    with capture_logs() as lines:
        async with working(attached):
            await until(lambda: seen == ["stumble", "stumble"])
    held = [line["job_id"] for line in lines if line["event"] == "job.held"]
    assert held == [id, id]


async def test_what_moves_within_a_worker_is_not_run_before_it_has_left_its_place(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = queue_dramatiq.Moving()
    monkeypatch.setattr(queue_dramatiq, "Moving", lambda: moving)
    monkeypatch.setattr(queue_dramatiq, "MOVE_SECONDS", 3600)
    async with working(attached):  # what other tests left
        await until(lambda: empty(attached))
    message = dramatiq.Message[None]("queue", "job", (), {}, {}, await put(strike))
    moving.before_enqueue(Broker(middleware=[]), message, None)
    async with working(attached):
        await until(lambda: moving.moved._waiters)  # type: ignore[attr-defined]
        assert seen == []
        moving.after_ack(Broker(middleware=[]), message)
        await until(lambda: seen == ["strike"])


async def test_a_job_has_no_ids_of_the_one_before_it() -> None:
    worker: Any = SimpleNamespace(queue_prefetch=1)
    jobs = queue_dramatiq.Jobs(Broker(middleware=[]), worker, asyncio.Event())
    with structlog.contextvars.bound_contextvars(request_id="of-the-first"):
        jobs._start(tell())
    await until(lambda: seen == ["None"])
    await until(lambda: not jobs.hand)


async def test_what_is_done_is_acknowledged_once_that_can_be(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge = WORKS.acknowledge
    failures: list[Exception] = [RuntimeError("away"), Unavailable("it")]

    async def fail(self: Any, messages: list[Any]) -> None:
        if failures:
            raise failures.pop()
        await acknowledge(self, messages)

    monkeypatch.setattr(WORKS, "acknowledge", fail)
    for _ in range(2):
        await put(strike)
    with capture_logs() as lines:
        async with working(attached):
            await until(lambda: seen == ["strike", "strike"])
    assert [line["event"] for line in lines].count("worker.interrupted") == 2
    assert await empty(attached)
    async with working(attached):
        await until(lambda: empty(attached))
    assert seen == ["strike", "strike"]


async def test_what_waits_for_others_to_be_acknowledged_with_is_not_left_behind(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_dramatiq, "TOGETHER_SECONDS", 3600)
    ended: list[int] = []
    acknowledge = WORKS.acknowledge

    async def counted(self: Any, messages: list[Any]) -> None:
        ended.append(len(messages))
        await acknowledge(self, messages)

    monkeypatch.setattr(WORKS, "acknowledge", counted)
    for _ in range(3):
        await put(strike)
    async with working(attached.model_copy(update={"worker_concurrency": 2})):
        await until(lambda: len(seen) == 3)
    assert ended == [2, 1]
    assert await empty(attached)
