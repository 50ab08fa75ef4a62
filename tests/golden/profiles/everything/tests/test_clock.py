import asyncio
from datetime import UTC, datetime

from invoiceflow import queue
from invoiceflow.config import Settings

from tests.running import until

ran: list[datetime] = []


@queue.job()
async def tick() -> None:
    ran.append(datetime.now(UTC))


async def test_two_clocks_put_each_time_on_the_queue_once(attached: Settings) -> None:
    queue.schedule("* * * * * */2", tick)  # the sixth field counts seconds
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for queues in (["maintenance"], ["maintenance"], []):
            group.create_task(queue.serve(attached, queues, stopping))
        await until(lambda: len(ran) >= 3)
        stopping.set()

    times = [int(moment.timestamp()) // 2 for moment in ran]
    assert len(times) == len(set(times))
