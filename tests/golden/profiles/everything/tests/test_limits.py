from collections.abc import AsyncIterator

import pytest
from fastapi import Depends, Request
from httpx2 import ASGITransport, AsyncClient
from pydantic import SecretStr

from invoiceflow import redis, web
from invoiceflow.config import Settings
from invoiceflow.limits import limit

from tests.pipe import pipe


def key(request: Request) -> str:
    return request.headers["x-key"]


def replica(settings: Settings) -> AsyncClient:
    app = web.create(settings)

    @app.get("/rare", dependencies=[Depends(limit("rare", times=2, seconds=60))])
    async def rare() -> None: ...

    @app.get("/other", dependencies=[Depends(limit("other", times=1, seconds=60))])
    async def other() -> None: ...

    @app.get("/keyed", dependencies=[Depends(limit("keyed", times=1, seconds=60, by=key))])
    async def keyed() -> None: ...

    transport = ASGITransport(app, client=("192.0.2.1", 1))
    return AsyncClient(transport=transport, base_url="http://service")


@pytest.fixture
async def client(attached: Settings) -> AsyncIterator[AsyncClient]:
    async with redis.commands() as commands:
        for name in await commands.keys("limit:*"):
            await commands.delete(name)
    async with replica(attached) as client:
        yield client


async def test_who_asks_too_often_is_told_when_to_come_back(client: AsyncClient) -> None:
    assert [(await client.get("/rare")).status_code for _ in range(3)] == [200, 200, 429]

    answer = await client.get("/rare")
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert (await client.get("/other")).status_code == 200


async def test_all_replicas_count_together(attached: Settings, client: AsyncClient) -> None:
    async with replica(attached) as second:
        codes = [(await one.get("/rare")).status_code for one in (client, second, client, second)]
    assert codes == [200, 200, 429, 429]


async def test_a_limit_ends_with_its_time_however_often_one_asks(client: AsyncClient) -> None:
    await client.get("/rare")
    async with redis.commands() as commands:
        (count,) = await commands.keys("limit:rare:*")
        assert 0 < await commands.ttl(count) <= 60
        await commands.expire(count, 10)
    assert [(await client.get("/rare")).status_code for _ in range(2)] == [200, 429]
    async with redis.commands() as commands:
        assert 0 < await commands.ttl(count) <= 10
        await commands.expire(count, 0)
    assert (await client.get("/rare")).status_code == 200


@pytest.mark.parametrize(
    "seen",
    [
        [("X-Forwarded-For", "198.51.100.7")],
        [("X-Forwarded-For", "made up, 198.51.100.7")],
        [("X-Forwarded-For", "made up"), ("X-Forwarded-For", "198.51.100.7")],
    ],
)
async def test_callers_are_told_apart_by_what_the_nearest_proxy_saw(
    client: AsyncClient, seen: list[tuple[str, str]]
) -> None:
    proxied = {"X-Forwarded-For": "198.51.100.7"}
    assert (await client.get("/other")).status_code == 200
    assert (await client.get("/other", headers=proxied)).status_code == 200
    assert (await client.get("/other", headers=seen)).status_code == 429


async def test_callers_are_told_apart_by_whatever_the_service_says(client: AsyncClient) -> None:
    codes = [(await client.get("/keyed", headers={"X-Key": k})).status_code for k in "aab"]
    assert codes == [200, 429, 200]


async def test_the_store_does_not_say_who_asked(client: AsyncClient) -> None:
    await client.get("/keyed", headers={"X-Key": "secret"})
    async with redis.commands() as commands:
        names = await commands.keys("limit:keyed:*")
    assert names
    assert "secret" not in str(names)


async def test_everybody_is_let_through_while_redis_is_away(
    attached: Settings, client: AsyncClient
) -> None:
    async with pipe(attached.redis_url.get_secret_value()) as between:
        url = {"redis_url": SecretStr(between.url), "redis_timeout_seconds": 0.5}
        async with redis.connect(attached.model_copy(update=url)):
            assert [(await client.get("/other")).status_code for _ in range(2)] == [200, 429]
            await between.cut()
            assert (await client.get("/other")).status_code == 200
            await between.open()
            assert (await client.get("/other")).status_code == 429
