import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
from httpx2 import ASGITransport, AsyncClient

from invoiceflow import web
from invoiceflow.config import Settings

from tests.pipe import pipe
from tests.running import Start, free_port, until

NEW = {"customer": "Ada", "amount_cents": 1200, "due_on": "2030-01-31"}


@pytest.fixture
async def client(attached: Settings) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(web.create(attached))
    async with AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_an_invoice_is_open_when_it_is_new(client: AsyncClient) -> None:
    created = await client.post("/invoices", json=NEW)
    assert created.status_code == 201

    found = await client.get(f"/invoices/{created.json()['id']}")
    assert found.json() == created.json()
    assert found.json().items() >= {**NEW, "status": "open"}.items()


async def test_the_newest_invoices_come_first(client: AsyncClient) -> None:
    first, second = [(await client.post("/invoices", json=NEW)).json() for _ in range(2)]

    assert (await client.get("/invoices")).json()[:2] == [second, first]
    assert (await client.get("/invoices?limit=1")).json() == [second]


async def test_an_unknown_invoice_is_404(client: AsyncClient) -> None:
    assert (await client.get(f"/invoices/{uuid.uuid4()}")).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_cents": 0},
        {"amount_cents": 2**31},
        {"customer": ""},
        {"customer": "NUL \x00"},
        {"due_on": "soon"},
    ],
)
async def test_an_invoice_that_makes_no_sense_is_refused(
    client: AsyncClient, wrong: dict[str, object]
) -> None:
    assert (await client.post("/invoices", json=NEW | wrong)).status_code == 422


async def test_a_body_that_does_not_arrive_is_given_up(
    environment: dict[str, str], start: Start
) -> None:
    port = free_port()
    process = start("web", environment | {"PORT": str(port), "REQUEST_TIMEOUT_SECONDS": "0.5"})
    await asyncio.to_thread(process.event, "web.listening")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        writer.write(b"POST /invoices HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
    process.event("request.timeout", seconds=0.5)


async def test_sigterm_waits_no_longer_than_the_grace_for_a_body_that_does_not_arrive(
    environment: dict[str, str], start: Start
) -> None:
    port = free_port()
    own = {"PORT": str(port), "REQUEST_TIMEOUT_SECONDS": "300", "GRACE_SECONDS": "1"}
    process = start("web", environment | own)
    await asyncio.to_thread(process.event, "web.listening")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        writer.write(
            b"POST /invoices HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 100 ")
        assert await asyncio.to_thread(process.stop) == 0


async def test_a_hung_database_stops_neither_other_requests_nor_sigterm(
    environment: dict[str, str], start: Start
) -> None:
    port = free_port()
    async with (
        pipe(environment["DATABASE_URL"]) as between,
        AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        own = {"DATABASE_URL": between.url, "DATABASE_TIMEOUT_SECONDS": "1", "PORT": str(port)}
        process = start("web", environment | own)
        await asyncio.to_thread(process.event, "web.listening")

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(ready)
        assert (await client.post("/invoices", json=NEW)).status_code == 201

        between.hang()
        waiting = asyncio.create_task(client.post("/invoices", json=NEW))
        await between.holding.wait()
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert await asyncio.to_thread(process.stop) == 0
        answer = await waiting

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
