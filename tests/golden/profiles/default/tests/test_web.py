import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, post
from pydantic import BaseModel
from structlog.contextvars import merge_contextvars
from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from invoiceflow import resources, web
from invoiceflow.config import Settings
from invoiceflow.middleware import Requests
from invoiceflow.resources import Unavailable

from tests.running import Start, free_port, until

LONG = b'{"number": 1}'.ljust(1001)


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
        async with asyncio.timeout(30):  # a test that fails ends, too
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
    app: FastAPI, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def reached() -> None:
        asked.set()
        await answered.wait()

    monkeypatch.setattr(resources, "reached", reached)
    async with app.router.lifespan_context(app):
        await asked.wait()
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503

        answered.set()
        await until(lambda: app.state.health.reached)
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


@pytest.mark.parametrize(
    ("given", "bound"),
    [(f"00-{'1' * 32}-{'2' * 16}-01", True), ("00-1-2-01", False), ('00"', False)],
)
async def test_the_trace_of_a_request_is_on_its_log_lines(
    client: AsyncClient, given: str, bound: bool
) -> None:
    with capture_logs(processors=[merge_contextvars]) as lines:
        await client.get("/version", headers={"traceparent": given})

    assert [line.get("traceparent") for line in lines] == [given if bound else None]


async def test_a_request_id_comes_back_and_a_forged_one_does_not(client: AsyncClient) -> None:
    given = await client.get("/livez", headers={"X-Request-ID": "order-66.retry_1"})
    forged = await client.get("/livez", headers={"X-Request-ID": 'x","level":"critical'})
    long = await client.get("/livez", headers={"X-Request-ID": "x" * 129})
    made = await client.get("/livez")

    assert given.headers["x-request-id"] == "order-66.retry_1"
    assert forged.headers["x-request-id"].isalnum()
    assert long.headers["x-request-id"] != "x" * 129
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
    assert status != 405 or answer.headers["allow"] == "POST"
    assert status != 422 or [error["at"] for error in answer.json()["errors"]] == ["body/number"]


async def test_a_body_without_a_length_is_counted(client: AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield LONG[:600]
        yield LONG[600:]

    answer = await client.post("/echo", content=body())

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_of_just_the_limit_is_taken(client: AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}

    assert (await client.post("/echo", content=LONG[:-1], headers=headers)).status_code == 200


async def test_each_request_is_one_line_and_a_failure_has_its_trace(client: AsyncClient) -> None:
    with capture_logs(processors=[merge_contextvars, format_exc_info]) as lines:
        await client.get("/livez")  # a probe that finds all well is not worth a line
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
    await client.request("PURGE", "/made/up")
    await client.post("/echo", json={"number": 1})

    metrics = (await client.get("/metrics")).text
    assert "made" not in metrics
    assert "PURGE" not in metrics
    assert 'method="POST",route="/echo",status="200"' in metrics


def test_a_deadline_is_kept_on_the_loop_of_the_process(app: FastAPI) -> None:
    async def status(seconds: float) -> int:
        transport = ASGITransport(Requests(app, timeout=seconds, max_body=1000))
        async with AsyncClient(transport=transport, base_url="http://service") as client:
            return (await client.get("/slow")).status_code

    async def statuses() -> list[int]:
        # Its timers count whole milliseconds and may be early.
        return await asyncio.gather(*(status(0.1 + number / 7000) for number in range(200)))

    assert set(uvloop.run(statuses())) == {503}


def test_the_process_limits_and_logs_every_request(
    start: Start, unattached: dict[str, str]
) -> None:
    port = free_port()
    process = start("web", unattached | {"PORT": str(port), "MAX_BODY_BYTES": "10"})
    process.event("web.listening")
    headers = {"X-Request-ID": "big"}
    answer = post(f"http://127.0.0.1:{port}/livez", content=b"x" * 11, headers=headers)
    process.stop()

    assert answer.status_code == 413
    assert answer.headers["x-request-id"] == "big"
    assert "server" not in answer.headers
    lines = [event for event in process.events if event.get("request_id") == "big"]
    assert [(line["event"], line["status"]) for line in lines] == [("request", 413)]
    assert not process.other
