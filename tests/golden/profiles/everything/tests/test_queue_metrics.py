import math

import pytest
from httpx2 import ASGITransport, AsyncClient

from invoiceflow import queue, queue_rabbitmq, web
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from tests.queueing import empty, put, working
from tests.running import until


@queue.job(attempts=1)
async def fails() -> None:
    raise RuntimeError("always")


async def metrics(settings: Settings) -> dict[str, float]:
    transport = ASGITransport(web.create(settings))
    async with AsyncClient(transport=transport, base_url="http://service") as client:
        lines = (await client.get("/metrics")).text.splitlines()
    pairs = [line.split() for line in lines if line.startswith("queue_jobs_")]
    return {name: float(value) for name, value in pairs}


async def test_the_depth_of_the_queue_is_a_metric(attached: Settings) -> None:
    async with working(attached):
        await until(lambda: empty(attached))
    before = await metrics(attached)
    await put(fails)
    waits = await metrics(attached)
    assert waits["queue_jobs_waiting"] == before["queue_jobs_waiting"] + 1

    async def dead() -> bool:
        found = await metrics(attached)
        # Nothing waits in the end, though a job that another test left may have waited before.
        return found == {"queue_jobs_waiting": 0, "queue_jobs_dead": before["queue_jobs_dead"] + 1}

    async with working(attached):
        await until(dead)


async def test_what_cannot_be_counted_is_not_a_number_and_the_rest_is_there(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Settings) -> None:
        raise Unavailable("broker")

    monkeypatch.setattr(queue_rabbitmq, "depth", away)

    assert all(map(math.isnan, (await metrics(attached)).values()))
