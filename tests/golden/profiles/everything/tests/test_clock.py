import asyncio

import pytest

from invoiceflow import clock, parts, queue, queue_rabbitmq, runner
from invoiceflow.config import Settings

from tests.queueing import working
from tests.running import until

seen: list[str] = []


@queue.job()
async def strike() -> None:
    seen.append("strike")


async def test_a_clock_puts_a_job_on_the_queue_at_its_time(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TICKS", [])
    queue.schedule("* * * * * *", strike)  # the sixth field counts seconds
    stopping = asyncio.Event()
    async with working(attached), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(queue_rabbitmq.tick(attached, stopping))
        await until(lambda: len(seen) >= 2)
        stopping.set()


def test_a_clock_imports_the_schedules(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "work", lambda *_, **__: 0)
    monkeypatch.setattr(parts, "SCHEDULES", ["made_up"])

    with pytest.raises(ModuleNotFoundError, match="made_up"):
        clock.main(settings)
