import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from invoiceflow import cache, redis
from invoiceflow.cache import cached
from invoiceflow.config import Settings

from tests.pipe import Pipe, pipe
from tests.running import SECONDS, until


class Work:
    """Something worth keeping, and how often it was done."""

    def __init__(self) -> None:
        self.done = 0

    async def __call__(self) -> dict[str, int]:
        self.done += 1
        return {"done": self.done}


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def between(attached: Settings) -> AsyncIterator[Pipe]:
    """What the cache goes through, with a short deadline."""
    async with pipe(attached.redis_url.get_secret_value()) as between:
        values = {"redis_url": SecretStr(between.url), "redis_timeout_seconds": 0.2}
        async with redis.connect(attached.model_copy(update=values)):
            yield between


async def test_a_value_is_made_once_and_kept_for_its_time(attached: Settings, work: Work) -> None:
    assert await cached("once", 1000, work) == {"done": 1}
    assert await cached("once", 1000, work) == {"done": 1}
    assert await cached("other", 1000, work) == {"done": 2}

    async with redis.commands() as client:
        await client.expire("cache:{once}", 0)
    assert await cached("once", 1000, work) == {"done": 3}


async def test_values_do_not_expire_together_and_none_is_kept_too_long(
    attached: Settings, work: Work
) -> None:
    for number in range(20):
        await cached(f"spread {number}", 1000, work)

    async with redis.commands() as client:
        now, microseconds = await client.time()
        names = ["cache:{spread " + str(number) + "}" for number in range(20)]
        ends = [await client.pexpiretime(name) / 1000 for name in names]
    assert max(ends) <= now + microseconds / 1e6 + 1000
    assert max(ends) - min(ends) > 10


async def test_nothing_and_what_json_changes_are_kept_as_they_are_found_again(
    attached: Settings,
) -> None:
    async def nothing() -> None:
        return None

    async def pair() -> tuple[int, int]:
        return 1, 2

    async def never() -> None:
        raise AssertionError

    for key, make, value in [("nothing", nothing, None), ("pair", pair, [1, 2])]:
        assert await cached(key, 1000, make) == value
        assert await cached(key, 1000, never) == value


async def looks() -> int:
    """How often the server was asked for a value."""
    async with redis.commands() as client:
        return int((await client.info("commandstats"))["cmdstat_eval"]["calls"])


async def test_one_caller_makes_a_value_and_the_others_wait_for_it(
    attached: Settings, work: Work
) -> None:
    await cached("warm", 1000, work)
    before = await looks()

    async def all_asked() -> bool:
        return await looks() >= before + 30

    async def slow() -> dict[str, int]:
        await until(all_asked)
        return await work()

    values = await asyncio.gather(*(cached("together", 1000, slow) for _ in range(30)))
    assert values == [{"done": 2}] * 30


async def test_a_value_that_could_not_be_made_is_made_by_the_next(
    attached: Settings, work: Work
) -> None:
    async def broken() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await cached("broken", 1000, broken)
    async with redis.commands() as client:
        assert not await client.exists("cache:{broken}:claim")
    assert await cached("broken", 1000, work) == {"done": 1}


async def test_nobody_waits_for_ever_for_one_who_died(
    attached: Settings, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with redis.commands() as client:
        await client.set("cache:{dead}:claim", "")
    monkeypatch.setattr(cache, "CLAIM_SECONDS", 0.1)
    async with asyncio.timeout(SECONDS):
        assert await cached("dead", 1000, work) == {"done": 1}


async def test_a_claim_ends_by_itself(attached: Settings) -> None:
    async def expires() -> int:
        async with redis.commands() as client:
            return int(await client.pttl("cache:{ends}:claim"))

    assert 0 < await cached("ends", 1000, expires) <= 1000 * cache.CLAIM_SECONDS


@pytest.mark.parametrize("outage", ["cut", "hung"])
async def test_without_the_cache_the_work_is_done_and_the_log_says_so_once(
    between: Pipe, work: Work, outage: str
) -> None:
    await redis.ping()
    with capture_logs() as lines:
        if outage == "cut":
            await between.cut()
        else:
            between.hang()
        for number in range(3):
            assert await cached("away", 1000, work) == {"done": number + 1}
        if outage == "cut":
            await between.open()
        else:
            between.flow()
        assert await cached("away", 1000, work) == {"done": 4}
        assert await cached("away", 1000, work) == {"done": 4}

    assert [line["event"] for line in lines] == ["redis.away", "redis.back"]


async def test_a_value_is_returned_though_it_cannot_be_kept(between: Pipe, work: Work) -> None:
    async def last() -> dict[str, int]:
        await between.cut()
        return await work()

    assert await cached("last", 1000, last) == {"done": 1}
