"""The clock of RabbitMQ and Redis: each time once, however many clocks there are and were."""

import asyncio
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from invoiceflow import outbox, queue, queue_rabbitmq, runner, ticks
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from tests.queueing import empty, working
from tests.running import until

seen: list[str] = []


@queue.job()
async def strike() -> None:
    seen.append("strike")


async def waiting(settings: Settings) -> int:
    return (await queue_rabbitmq.depth(settings)).waiting


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


async def test_each_time_is_enqueued_once_however_many_clocks_ask(attached: Settings) -> None:
    times: list[datetime] = []

    def passed(last: datetime, now: datetime) -> list[datetime]:
        return [time for time in times if last < time <= now]

    async def ask(clocks: int) -> None:
        tick = runner.Tick("0 0 1 1 *", strike)
        await asyncio.gather(*(outbox.due(tick, passed) for _ in range(clocks)))

    async with working(attached):  # what other tests left
        await until(lambda: empty(attached))
    before = await waiting(attached)
    times.append(datetime.now(UTC))
    await ask(3)  # the first of them remembers the moment
    assert await waiting(attached) == before
    for _ in range(2):
        times.append(datetime.now(UTC))
    for _ in range(2):
        await ask(5)
    async with working(attached):
        await until(lambda: seen == ["strike", "strike"])

        async def all_done() -> bool:
            return await waiting(attached) == before

        await until(all_done)
    assert seen == ["strike", "strike"]

    times.append(datetime.now(UTC))
    await ask(5)
    async with working(attached):
        await until(lambda: len(seen) == 3)


def test_times_that_passed_while_no_clock_ran_are_made_up_for_within_limits() -> None:
    def times(last: str, now: str) -> list[str]:
        last_, now_ = (datetime.fromisoformat(f"2026-01-01T{time}Z") for time in (last, now))
        return [f"{time:%H:%M}" for time in ticks._times("*/4 * * * *", last_, now_)]

    assert times("12:59", "13:03") == ["13:00"]
    assert times("12:56", "13:04") == ["13:00", "13:04"]
    assert times("11:00", "13:01") == ["12:52", "12:56", "13:00"]
    assert times("13:00", "13:00") == []


async def test_a_clock_goes_on_after_an_outage(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = asyncio.Event()
    asked: list[runner.Tick] = []

    async def due(tick: runner.Tick, times: object) -> None:
        asked.append(tick)
        if len(asked) == 1:
            raise Unavailable("it")
        stopping.set()

    monkeypatch.setattr(outbox, "due", due)
    monkeypatch.setattr(ticks, "RETRY_SECONDS", 0)
    monkeypatch.setattr(runner, "TICKS", [runner.Tick("0 0 1 1 *", strike)])
    with capture_logs() as lines:
        await asyncio.wait_for(queue_rabbitmq.tick(attached, stopping), 30)
    assert len(asked) == 2
    assert "worker.interrupted" in {line["event"] for line in lines}
