import asyncio

import pytest
from sqlalchemy import text

from invoiceflow import clock, parts, postgres, queue
from invoiceflow.config import Settings

from tests.running import until


@queue.job()
async def tick() -> None:
    pass


async def due() -> list[str]:
    """The times for which the job is on the queue."""
    query = "select args->>'timestamp' from procrastinate_jobs where task_name = :name"
    async with postgres.transaction() as session:
        return list(await session.scalars(text(query), {"name": tick.task.name}))


async def test_two_clocks_put_each_time_on_the_queue_once(attached: Settings) -> None:
    queue.schedule("* * * * * */2", tick)  # the sixth field counts seconds
    stopping = asyncio.Event()

    async def thrice() -> bool:
        return len(await due()) >= 3

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(queue.serve(attached, ["maintenance"], stopping))
        await until(thrice)
        stopping.set()

    times = await due()
    assert len(times) == len(set(times))


def test_a_clock_imports_the_schedules(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "work", lambda *_, **__: 0)
    monkeypatch.setattr(parts, "SCHEDULES", ["made_up"])

    with pytest.raises(ModuleNotFoundError, match="made_up"):
        clock.main(settings)
