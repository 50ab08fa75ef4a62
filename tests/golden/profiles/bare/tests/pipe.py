"""A TCP pipe in front of a backing service: it can be cut, it can hang, and it can want TLS."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from ssl import SSLContext
from urllib.parse import urlsplit, urlunsplit

from dev.server import free_port

PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "amqp": 5672, "http": 80}

# What a client of PostgreSQL asks before anything else, if it wants to.
# https://www.postgresql.org/docs/current/protocol-message-formats.html
SSL_REQUEST, GSS_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x08\x04\xd2\x16\x30"
START = b"\0\x03"  # the version, after the length; to cancel a query needs no secret


class Pipe:
    """Forwards to a URL's host and port; use `.url` in its place."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.connections = 0  # so far
        self.answers = 0  # pieces that came from the service so far
        self.delay = 0.0  # seconds that it holds back whatever comes from the service
        self.tls: SSLContext | None = None  # by which it is spoken to, if it wants TLS
        self.tempted = False  # whether it has told a client of PostgreSQL that it knows no TLS
        self.bare = False  # whether such a client went on nevertheless, or did not ask
        self.sought: re.Pattern[bytes] | None = None  # in what clients say
        self.found: list[bytes] = []
        self.holding = asyncio.Event()  # set once it hangs and something waits in it
        self._serving: set[asyncio.Future[object]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = free_port()  # which nobody else takes while it is cut

    @property
    def url(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{self._port}" if user else f"127.0.0.1:{self._port}"
        return urlunsplit(self._target._replace(netloc=netloc))

    async def open(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def cut(self) -> None:
        """Refuse connections and end those there are."""
        assert self._server
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await asyncio.sleep(0)  # a server that closes leaks what it has just accepted
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    def hang(self) -> None:
        """Go on accepting, and let no byte through."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def ended(self) -> None:
        """Wait until no connection is left."""
        await asyncio.gather(*self._serving)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._server
        self.connections += 1
        if self._server.is_serving():
            self._serving.add(asyncio.ensure_future(self._serve(reader, writer)))
        else:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.tls:
                await self._encrypt(self.tls, reader, writer)
            there, back = await asyncio.open_connection(
                self._target.hostname, self._target.port or PORTS[self._target.scheme]
            )
            self._writers.add(back)
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer, True))
            self._writers.discard(back)
        except (OSError, EOFError):
            writer.transport.abort()
        self._writers.discard(writer)

    async def _encrypt(
        self, tls: SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Let a client begin TLS; the first one that asks, as PostgreSQL's do, is told that there
        is none, and must not go on."""
        if self._target.scheme in ("postgresql", "postgres"):
            while (asked := await reader.readexactly(8)) == GSS_REQUEST:
                writer.write(b"N")
            if asked != SSL_REQUEST or not self.tempted:
                self.tempted = True
                writer.write(b"N")
                more = await reader.read(1) if asked == SSL_REQUEST else b""
                self.bare |= bool(more) or asked[4:6] == START
                raise ConnectionRefusedError
            writer.write(b"S")
        await writer.start_tls(tls)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not self._flowing.is_set():
                    self.holding.set()
                    await self._flowing.wait()
                self.answers += answers
                if self.sought and not answers:
                    self.found += self.sought.findall(data)
                if answers and self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def pipe(url: str) -> AsyncIterator[Pipe]:
    made = Pipe(url)
    await made.open()
    try:
        yield made
    finally:
        made.flow()
        await made.cut()
        await made.ended()
