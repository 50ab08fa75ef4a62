import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient
from pydantic import BaseModel
from structlog.contextvars import merge_contextvars
from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from invoiceflow import web
from invoiceflow.config import Settings
from invoiceflow.middleware import Requests
from invoiceflow.resources import Unavailable

LONG = b'{"number": 1' + b" " * 1000 + b"}"


class Body(BaseModel):
    number: int


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    app = web.create(settings.model_copy(update={"max_body_bytes": 1000}))

    @app.post("/echo")
    async def echo(body: Body) -> Body:
        return body

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a detail that is nobody's business")

    @app.get("/unavailable")
    async def unavailable() -> None:
        raise Unavailable("the-service")

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(Requests(app, timeout=0.2, max_body=1000))
    async with AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_alive_asks_nothing_and_ready_waits_for_the_resources(
    app: FastAPI, client: AsyncClient
) -> None:
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 503

    app.state.health.reached = True
    assert (await client.get("/readyz")).status_code == 200

    app.state.health.draining = True
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/livez")).status_code == 200


async def test_version_names_the_release_and_the_commit(
    client: AsyncClient, settings: Settings
) -> None:
    assert (await client.get("/version")).json() == {
        "revision": settings.revision,
        "release": settings.release_id,
    }


async def test_a_request_id_comes_back_and_a_forged_one_does_not(client: AsyncClient) -> None:
    given = await client.get("/livez", headers={"X-Request-ID": "order-66.retry_1"})
    forged = await client.get("/livez", headers={"X-Request-ID": 'x","level":"critical'})
    made = await client.get("/livez")

    assert given.headers["x-request-id"] == "order-66.retry_1"
    assert forged.headers["x-request-id"].isalnum()
    assert made.headers["x-request-id"] not in ("", forged.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing-here", b"", 404),
        ("DELETE", "/echo", b"", 405),
        ("POST", "/echo", b"{", 400),
        ("POST", "/echo", b'{"number": "many"}', 422),
        ("POST", "/echo", LONG, 413),
        ("GET", "/broken", b"", 500),
        ("GET", "/unavailable", b"", 503),
        ("GET", "/slow", b"", 503),
    ],
)
async def test_errors_are_problems_that_give_nothing_away(
    client: AsyncClient, method: str, path: str, body: bytes, status: int
) -> None:
    answer = await client.request(
        method, path, content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "nobody" not in answer.text
    assert "many" not in answer.text
    assert status != 503 or answer.headers["retry-after"] == "1"


async def test_a_body_without_a_length_is_counted(client: AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield LONG[:600]
        yield LONG[600:]

    answer = await client.post("/echo", content=body())

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_each_request_is_one_line_and_a_failure_has_its_trace(client: AsyncClient) -> None:
    with capture_logs(processors=[merge_contextvars, format_exc_info]) as lines:
        await client.post("/echo", json={"number": 1}, headers={"X-Request-ID": "one"})
        await client.get("/broken", headers={"X-Request-ID": "two"})

    assert [(line["event"], line["request_id"]) for line in lines] == [
        ("request", "one"),
        ("request.failed", "two"),
        ("request", "two"),
    ]
    assert "RuntimeError" in lines[1]["exception"]
    assert lines[2]["status"] == 500


async def test_a_made_up_path_makes_no_new_metric(client: AsyncClient) -> None:
    await client.get("/made/up")
    await client.post("/echo", json={"number": 1})

    metrics = (await client.get("/metrics")).text
    assert "made" not in metrics
    assert 'method="POST",route="/echo",status="200"' in metrics
