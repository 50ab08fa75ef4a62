"""The HTTP server (factors VII and IX): one process, one event loop, drained on SIGTERM.

After SIGTERM a balancer goes on sending for as long as it takes to notice. So the server goes on
serving meanwhile, says `Connection: close` on every answer, then empties what was accepted, and
only then stops. Nothing that reached it stays unanswered.
"""

import asyncio
import select
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75  # longer than balancers keep an idle connection, or they use a closed one
MAX_HEADER_BYTES = 32 * 1024
READ_SECONDS = 10  # for a request's head, and for the rest of one that was refused
ACCEPT_SECONDS = 0.5  # for the queue of connections that the kernel has accepted
UNREAD_SECONDS = 1  # for connections whose request is still on its way

log = structlog.get_logger()


class Protocol(HttpToolsProtocol):
    """HTTP with the limits that the server lacks: the size of a request's head, its time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.began: float | None = self.loop.time()  # None once the head is there
        self.head_bytes = 0
        self.refused = False

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return  # read on, so that the client gets to read the answer
        if self.began is None and (self.cycle is None or self.cycle.response_complete):
            self.began, self.head_bytes = self.loop.time(), 0
        if self.began is not None:
            self.head_bytes += len(data)
        super().data_received(data)
        if self.began is not None and self.head_bytes > MAX_HEADER_BYTES:
            self.refuse(431)

    def on_headers_complete(self) -> None:
        size = sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url)
        if size > MAX_HEADER_BYTES:
            self.refuse(431)
            return
        self.began = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.refused:
            super().on_message_complete()

    def refuse(self, status: int) -> None:
        self.refused = True
        self.began = self.loop.time()
        close = b"content-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + close)
        self.transport.write_eof()

    def expire(self, now: float) -> None:
        """End a connection whose request does not arrive."""
        if self.began is None or now - self.began < READ_SECONDS:
            return
        if self.head_bytes and not self.refused:
            self.refuse(408)
        else:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn with a drain: the first SIGTERM begins it, a second signal ends it, a third all."""

    def __init__(
        self, config: uvicorn.Config, *, drain_seconds: float, on_drain: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.drain_seconds = drain_seconds
        self.on_drain = on_drain
        self.draining_since: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The base class would raise the signal again at the end: a drained process exits with 0.
        if sig == signal.SIGTERM and self.started and self.draining_since is None:
            self.draining_since = time.monotonic()
        elif self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol):
                connection.expire(now)
        if self.draining_since is not None:
            if (b"connection", b"close") not in self.config.encoded_headers:
                log.info("web.draining", seconds=self.drain_seconds)
                self.on_drain()
                self.config.encoded_headers.append((b"connection", b"close"))
                counter = 0  # the base class renews the headers of answers at 0
            if time.monotonic() - self.draining_since >= self.drain_seconds:
                self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            log.info("web.listening", port=listener.getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, then stop."""
        await self._empty_accept_queues(sockets or [])
        for server in self.servers:
            server.close()
        await _until(lambda: not any(map(_unread, self.server_state.connections)), UNREAD_SECONDS)
        await super().shutdown(sockets)
        log.info("web.stopped")

    async def _empty_accept_queues(self, sockets: list[socket.socket]) -> None:
        # Closing a listener resets what waits in its queue. No further connection enters a queue
        # of length 0: its client tries again, and meets another replica.
        for listener in sockets:
            listener.listen(0)
        await _until(lambda: not select.select(sockets, [], [], 0)[0], ACCEPT_SECONDS)


def _unread(connection: object) -> bool:
    return isinstance(connection, Protocol) and not (connection.began is None or connection.refused)


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """Let the loop work until this holds, so many seconds at most."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:  # noqa: ASYNC110  # the kernel sets no event
        await asyncio.sleep(0.01)


def listen(port: int) -> socket.socket:
    """A listening socket on every interface, IPv6 and IPv4 alike."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
        )
    return socket.create_server(("", port), backlog=BACKLOG)
