"""Jobs that go to Redis as they are enqueued: there when the call returns, or it raises."""

import asyncio
import time
from typing import Any

import dramatiq
import pytest

from invoiceflow import queue, queue_dramatiq, redis, redis_jobs, resources
from invoiceflow.config import Settings

from tests.pipe import pipe


@queue.job()
async def note(word: str, more: object = None) -> None:
    pass


@pytest.fixture(autouse=True)
async def nothing_waits(attached: Settings) -> None:
    async with redis.commands() as client:
        await client.flushdb()


async def waiting() -> dict[str, bytes]:
    """What waits: the library's message by its own id, in order."""
    async with redis.commands() as client:
        ids: Any = await client.lrange(redis_jobs.WAITING, 0, -1)
        messages: Any = await client.hgetall(f"{redis_jobs.WAITING}.msgs")
    assert sorted(ids) == sorted(messages)
    return {own.decode(): messages[own] for own in ids}


async def test_a_job_is_there_when_the_call_returns_as_the_library_would_have_put_it(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1234.5678)
    arguments: Any = {"word": "größer", "more": {"a": [1, None, 2.5]}}
    once = note.once("key")
    id = await once.enqueue(**arguments)

    ((own, data),) = (await waiting()).items()
    assert own != id  # the library's is another whenever it is sent again
    expected = queue_dramatiq.message(redis_jobs.QUEUE, str(id), once.message(**arguments))
    assert dramatiq.Message.decode(data) == expected.copy(options={"redis_message_id": own})


async def test_jobs_wait_in_their_order(attached: Settings) -> None:
    ids = [await note.enqueue(word) for word in "abc"]
    found = [dramatiq.Message.decode(data).message_id for data in (await waiting()).values()]
    assert found == ids


async def test_without_redis_it_says_so(settings: Settings) -> None:
    async with resources.attach(settings):
        with pytest.raises(resources.Unavailable):
            await note.enqueue("lost")
    assert await waiting() == {}


async def test_a_redis_that_hangs_is_not_waited_for(attached: Settings) -> None:
    async with pipe(attached.redis_url.get_secret_value()) as between:
        values = attached.model_dump() | {"redis_url": between.url, "redis_timeout_seconds": 0.2}
        async with resources.attach(Settings(**values)):
            between.hang()
            with pytest.raises(resources.Unavailable):
                await note.enqueue("perhaps")


async def test_of_many_at_once_one_waits_under_a_key(attached: Settings) -> None:
    same, other = note.once("same"), note.once("other")
    ids = await asyncio.gather(*(same.enqueue(str(number)) for number in range(10)))
    assert await other.enqueue("other")

    (id,) = filter(None, ids)
    found = [dramatiq.Message.decode(data).message_id for data in (await waiting()).values()]
    assert found[0] == id
    assert len(found) == 2
