import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Response
from httpx2 import ASGITransport, AsyncClient
from pydantic import BaseModel, SecretStr
from structlog.testing import capture_logs

from invoiceflow import idempotency, redis, sessions, web
from invoiceflow.config import Settings
from invoiceflow.idempotency import Idempotent
from invoiceflow.resources import Unavailable

from tests.pipe import pipe
from tests.running import until

TEA = {"article": "tea"}
MILK = {"article": "milk"}


class Order(BaseModel):
    article: str


class Shop:
    """What the requests do, and how often."""

    def __init__(self) -> None:
        self.sold: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.trouble: list[Exception] = []

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/shops", route_class=Idempotent)

        @router.post("/{shop}", status_code=201)
        async def buy(shop: str, order: Order, response: Response) -> int:
            self.sold.append(order.article)
            await self.open.wait()
            if self.trouble:
                raise self.trouble.pop()
            response.headers["Location"] = f"/shops/{shop}/{len(self.sold)}"
            return len(self.sold)

        @router.post("/{shop}/receipt")
        async def receipt(shop: str) -> Response:
            self.sold.append("receipt")
            return Response(b"\n\xff\x00\n", media_type="application/pdf")

        @router.post("/{shop}/closed")
        async def closed(shop: str) -> Response:
            self.sold.append("closed")
            return Response(status_code=503)

        @router.put("/{shop}")
        async def replace(shop: str) -> None:
            self.sold.append("replaced")

        return router


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def app(attached: Settings, shop: Shop) -> FastAPI:
    app = web.create(attached.model_copy(update={"request_timeout_seconds": 30}))
    app.include_router(shop.router())
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="https://service") as client:
        yield client


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": f'"{uuid.uuid4()}"'}


async def names() -> set[bytes | str]:
    async with redis.commands() as commands:
        return set(await commands.keys("idempotency:*"))


async def cut_off(client: AsyncClient, shop: Shop, key: dict[str, str]) -> None:
    """A request that is cancelled while it works."""
    shop.open.clear()
    first = asyncio.create_task(client.post("/shops/1", json=TEA, headers=key))
    await until(lambda: shop.sold)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    shop.open.set()


async def test_a_request_that_is_sent_again_counts_once(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    first = await client.post("/shops/1", json=TEA, headers=key)
    again = await client.post("/shops/1", json=TEA, headers=key)

    assert shop.sold == ["tea"]
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() == 1
    assert again.headers["location"] == "/shops/1/1"
    assert again.headers.items() - first.headers.items() == {("idempotent-replayed", "true")}


async def test_any_bytes_come_again_as_they_were(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    first = await client.post("/shops/1/receipt", headers=key)
    again = await client.post("/shops/1/receipt", headers=key)

    assert shop.sold == ["receipt"]
    assert first.content == again.content == b"\n\xff\x00\n"
    assert again.headers["content-type"] == "application/pdf"


async def test_without_a_key_each_request_counts(client: AsyncClient, shop: Shop) -> None:
    for _ in range(2):
        await client.post("/shops/1", json=TEA)
    assert shop.sold == ["tea", "tea"]


async def test_other_methods_are_not_concerned(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    for _ in range(2):
        await client.put("/shops/1", headers=key)
    assert shop.sold == ["replaced", "replaced"]


@pytest.mark.parametrize("bad", ["", "x" * 256, "tab\there", "ä"])
async def test_a_key_that_is_none_is_refused(client: AsyncClient, shop: Shop, bad: str) -> None:
    headers = {b"Idempotency-Key": bad.encode("latin-1")}
    answer = await client.post("/shops/1", json=TEA, headers=headers)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert not shop.sold


async def test_a_key_belongs_to_one_request(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    await client.post("/shops/1", json=TEA, headers=key)
    other_body = await client.post("/shops/1", json=MILK, headers=key)
    other_query = await client.post("/shops/1?gift=yes", json=TEA, headers=key)

    assert other_body.status_code == other_query.status_code == 422
    assert shop.sold == ["tea"]


async def test_a_key_belongs_to_one_route_and_one_caller(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    ada, bob = [await sessions.create(user) for user in ("ada", "bob")]
    await client.post("/shops/1", json=TEA, headers=key)
    await client.post("/shops/2", json=TEA, headers=key)
    for authorization in (f"Bearer {ada}", f"Bearer {bob}", "Bearer another", "Basic another"):
        headers = key | {"Authorization": authorization}
        await client.post("/shops/1", json=TEA, headers=headers)
    assert len(shop.sold) == 6

    # The same user, who has logged in again meanwhile.
    again = key | {"Cookie": f"{sessions.COOKIE}={await sessions.create('ada')}"}
    assert (await client.post("/shops/1", json=TEA, headers=again)).json() == 3
    assert len(shop.sold) == 6


async def test_while_the_first_is_running_the_second_is_told_to_wait(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    shop.open.clear()
    first = asyncio.create_task(client.post("/shops/1", json=TEA, headers=key))
    await until(lambda: shop.sold)
    second = await client.post("/shops/1", json=TEA, headers=key)
    other = await client.post("/shops/1", json=MILK, headers=key)
    shop.open.set()

    assert second.status_code == 409
    assert second.headers["retry-after"] == "1"
    assert other.status_code == 422
    assert (await first).status_code == 201
    assert shop.sold == ["tea"]


@pytest.mark.parametrize(
    ("trouble", "status"),
    [(HTTPException(402), 402), (Unavailable("postgres"), 503), (RuntimeError(), 500)],
)
async def test_what_failed_may_be_tried_again(
    app: FastAPI, shop: Shop, key: dict[str, str], trouble: Exception, status: int
) -> None:
    transport = ASGITransport(app, raise_app_exceptions=False)
    shop.trouble.append(trouble)
    async with AsyncClient(transport=transport, base_url="https://service") as client:
        assert (await client.post("/shops/1", json=TEA, headers=key)).status_code == status
        assert (await client.post("/shops/1", json=TEA, headers=key)).status_code == 201
    assert shop.sold == ["tea", "tea"]


async def test_an_answer_that_says_failed_is_not_kept(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    for _ in range(2):
        assert (await client.post("/shops/1/closed", headers=key)).status_code == 503
    assert shop.sold == ["closed", "closed"]


async def test_a_body_that_makes_no_sense_uses_up_no_key(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    assert (await client.post("/shops/1", json={}, headers=key)).status_code == 422
    assert (await client.post("/shops/1", json=TEA, headers=key)).status_code == 201


async def test_nobody_repeats_what_was_cut_off_in_the_middle_until_it_must_be_over(
    client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    before = await names()
    await cut_off(client, shop, key)
    assert (await client.post("/shops/1", json=TEA, headers=key)).status_code == 409
    assert shop.sold == ["tea"]
    async with redis.commands() as commands:
        (running,) = await names() - before
        assert 30 < await commands.ttl(running) <= 35


async def test_an_answer_is_kept_for_its_time(client: AsyncClient, key: dict[str, str]) -> None:
    before = await names()
    await client.post("/shops/1", json=TEA, headers=key)
    async with redis.commands() as commands:
        (kept,) = await names() - before
        assert 35 < await commands.ttl(kept) <= idempotency.KEEP_SECONDS


async def test_nothing_is_done_while_redis_cannot_say_whether_it_was_done(
    attached: Settings, client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    async with pipe(attached.redis_url.get_secret_value()) as between:
        url = {"redis_url": SecretStr(between.url)}
        async with redis.connect(attached.model_copy(update=url)):
            await between.cut()
            answer = await client.post("/shops/1", json=TEA, headers=key)
            assert answer.status_code == 503
            assert not shop.sold
            assert (await client.post("/shops/1", json=TEA)).status_code == 201
            await between.open()
            assert (await client.post("/shops/1", json=TEA, headers=key)).status_code == 201


async def test_what_was_done_is_answered_though_it_cannot_be_kept(
    attached: Settings, client: AsyncClient, shop: Shop, key: dict[str, str]
) -> None:
    async with pipe(attached.redis_url.get_secret_value()) as between:
        url = {"redis_url": SecretStr(between.url)}
        async with redis.connect(attached.model_copy(update=url)):
            shop.open.clear()
            first = asyncio.create_task(client.post("/shops/1", json=TEA, headers=key))
            await until(lambda: shop.sold)
            await between.cut()
            with capture_logs() as lines:
                shop.open.set()
                assert (await first).status_code == 201

    assert "idempotency.not_kept" in [line["event"] for line in lines]
