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
    clocks = [asyncio.create_task(queue._serve(attached, ["maintenance"])) for _ in range(2)]
    worker = asyncio.create_task(queue._serve(attached, []))
    await until(lambda: len(ran) >= 3)
    for task in (*clocks, worker):
        task.cancel()
    await asyncio.wait([*clocks, worker])

    times = [int(moment.timestamp()) // 2 for moment in ran]
    assert len(times) == len(set(times))
