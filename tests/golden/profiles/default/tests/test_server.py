"""The server on a real socket: what it limits, and how it stops."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import pytest
import uvicorn
from httpx2 import AsyncClient, get
from starlette.types import Receive, Scope, Send

from invoiceflow import server

from tests.running import Start, free_port, until

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(
    app: Application, drain_seconds: float = 0, on_drain: Callable[[], None] = lambda: None
) -> AsyncIterator[server.Server]:
    """The server in this process; SIGTERM to this process is for it."""
    config = uvicorn.Config(
        app,
        http=server.Protocol,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=5,
        ws="none",
    )
    made = server.Server(config, drain_seconds=drain_seconds, on_drain=on_drain)
    with closing(server.listen(0)) as listener:
        made.config.port = listener.getsockname()[1]
        task = asyncio.create_task(made.serve([listener]))
        await until(lambda: made.started)
        yield made
        made.should_exit = True
        await task


async def send(running: server.Server, data: bytes) -> bytes:
    """All that comes back on a connection of its own until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.config.port)
    with closing(writer):
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()


async def test_it_listens_on_ipv4_and_ipv6() -> None:
    async with serving(hello) as running:
        for host in ("127.0.0.1", "[::1]") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            async with AsyncClient() as client:
                answer = await client.get(f"http://{host}:{running.config.port}")
            assert answer.text == "hello"


@pytest.mark.parametrize("size", [server.MAX_HEADER_BYTES + 1, 10 * server.MAX_HEADER_BYTES])
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["unfinished", "finished"])
async def test_a_head_beyond_the_limit_is_refused(size: int, end: bytes) -> None:
    reached: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)

    async with serving(app) as running:
        answer = await send(running, b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * size + end)

    assert not reached
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_head_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READ_SECONDS", 0.2)
    async with serving(hello) as running:
        assert (await send(running, b"GET / HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")
        assert await send(running, b"") == b""


async def test_a_limit_does_not_touch_the_next_request_of_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "READ_SECONDS", 0.2)
    async with serving(hello) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.config.port)
        with closing(writer):
            for _ in range(4):
                writer.write(b"GET / HTTP/1.1\r\nX-Big: " + b"x" * (server.MAX_HEADER_BYTES // 2))
                await until(lambda: any(map(server._unread, running.server_state.connections)))
                writer.write(b"\r\nHost: x\r\n\r\n")
                answer = await reader.readuntil(b"\r\n0\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 ")
                await asyncio.sleep(0.25)  # idle for longer than a head may take


async def test_sigterm_serves_on_says_close_and_then_stops() -> None:
    draining = asyncio.Event()
    async with serving(hello, drain_seconds=1, on_drain=draining.set) as running:
        url = f"http://127.0.0.1:{running.config.port}"
        async with AsyncClient() as client:
            assert "connection" not in (await client.get(url)).headers
            os.kill(os.getpid(), signal.SIGTERM)
            await draining.wait()
            for _ in range(2):
                answer = await client.get(url)
                assert answer.text == "hello"
                assert answer.headers["connection"] == "close"
        await until(lambda: not running.servers[0].is_serving())
        with pytest.raises(ConnectionError):
            await send(running, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_sigterm_answers_what_is_in_flight_and_what_was_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 20)
    arrived = 0
    release = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal arrived
        arrived += 1
        await release.wait()
        await hello(scope, receive, send)

    async with serving(slow) as running:
        url = f"http://127.0.0.1:{running.config.port}"
        _, unread = await asyncio.open_connection("127.0.0.1", running.config.port)
        async with AsyncClient() as client, asyncio.TaskGroup() as group:
            requests = [group.create_task(client.get(url, timeout=20)) for _ in range(50)]
            await until(lambda: arrived == 50)
            os.kill(os.getpid(), signal.SIGTERM)
            # A request on a connection that was open before the signal is still answered.
            await until(lambda: not running.servers[0].is_serving())
            unread.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: arrived == 51)
            release.set()
        unread.close()

    assert [request.result().status_code for request in requests] == [200] * 50


async def test_a_connection_that_waits_to_be_accepted_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutdown = server.Server.shutdown
    with socket.socket() as late:

        async def with_one_waiting(
            stopping: server.Server, sockets: list[socket.socket] | None = None
        ) -> None:
            late.connect(("127.0.0.1", stopping.config.port))  # no turn of the loop: not accepted
            late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await shutdown(stopping, sockets)

        monkeypatch.setattr(server.Server, "shutdown", with_one_waiting)
        async with serving(hello):
            pass
        assert late.recv(100).startswith(b"HTTP/1.1 200 ")


async def test_a_second_signal_waits_for_no_request() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await release.wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        async with serving(slow) as running:
            running.config.timeout_graceful_shutdown = None
            group.create_task(send(running, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
            await arrived.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: running.should_exit)
            os.kill(os.getpid(), signal.SIGTERM)
        release.set()


def test_the_process_is_not_ready_while_it_drains_and_a_second_signal_ends_that(
    start: Start, unattached: dict[str, str]
) -> None:
    port = free_port()
    process = start("web", unattached | {"PORT": str(port), "DRAIN_SECONDS": "300"})
    process.event("web.listening")
    process.signal(signal.SIGTERM)
    process.event("web.draining")
    answer = get(f"http://127.0.0.1:{port}/readyz")

    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    assert process.stop() == 0


def test_a_taken_port_is_named(start: Start, unattached: dict[str, str]) -> None:
    with socket.create_server(("", free_port())) as taken:
        port = taken.getsockname()[1]
        process = start("web", unattached | {"PORT": str(port)})

        assert process.exit_code() == 1
    event = process.event("web.cannot_listen")
    assert event["port"] == port
    assert "PORT" in event["hint"]


def test_garbage_on_the_socket_is_one_line_of_json(
    start: Start, unattached: dict[str, str]
) -> None:
    port = free_port()
    process = start("web", unattached | {"PORT": str(port)})
    process.event("web.listening")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"\x00\xff garbage\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    process.stop()

    assert not process.other
    assert json.dumps(process.events)
