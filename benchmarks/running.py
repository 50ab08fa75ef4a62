"""What it costs to run a service: the start, the memory, a request, the stop."""

import asyncio
import json
import os
import re
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import socket

from .service import API, BARE, PACKAGE, Row, Server, environment, folder, ready, started

STARTS = 7
REQUESTS = 1000  # before the second look at the memory

CONNECTIONS = 8
ROUND = 2000  # requests
ROUNDS = 20
REQUEST = b"GET /items/7?price=2.5 HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n"
LENGTH = re.compile(rb"content-length: (\d+)")

IN_FLIGHT = 50
NEWCOMERS = 4
STOP_SECONDS = 60


def start() -> Iterator[Row]:
    sets = {
        "the defaults": ((), "/invoices"),
        "an API with PostgreSQL": (API, "/version"),
        "an API alone": (BARE, "/version"),
    }
    with folder() as place:
        for what, (answers, path) in sets.items():
            service = ready(place, *answers, name=what.replace(" ", "-"))
            cpu: list[float] = []
            first: list[float] = []
            later: list[float] = []
            with environment(service) as env:
                with started(service, env, PACKAGE, "web"):
                    pass  # writes the bytecode of the service itself
                for _ in range(STARTS):
                    with started(service, env, PACKAGE, "web") as web:
                        cpu.append(web.cpu)
                        first.append(web.rss)
                        web.get(path, REQUESTS)
                        later.append(web.rss)
            seconds, mib, then = map(statistics.median, (cpu, first, later))
            yield f"web of {what}, exec to ready", "0.8 CPU-s", f"{seconds:.2f} CPU-s"
            memory = f"{mib:.1f} MiB; {then:.1f} after {REQUESTS} requests"
            yield f"web of {what}, memory", "80 MiB", memory


def request() -> Iterator[Row]:
    """Both sides at once, in turns, so that what else the machine does meets both alike."""
    cores = sorted(os.sched_getaffinity(0))
    with folder() as place, ExitStack() as stack:
        service = with_routes(place)
        env = stack.enter_context(environment(service))
        # Servers on one core, their client on another: where the kernel puts them is luck.
        os.sched_setaffinity(0, cores[:1])
        stack.callback(os.sched_setaffinity, 0, cores)
        bare, ours = (
            stack.enter_context(started(service, env, *module, path="/items/7?price=2.5"))
            for module in ((f"{PACKAGE}.routes",), (PACKAGE, "web"))
        )
        used: dict[int, list[float]] = {}
        clients = {}
        for server in (bare, ours):
            os.sched_setaffinity(server.process.pid, cores[-1:])
            clients[server.port] = [
                stack.enter_context(server.connect()) for _ in range(CONNECTIONS)
            ]
            ask(clients[server.port], ROUND)
        for _ in range(ROUNDS):
            for server in (bare, ours):
                before = server.cpu
                ask(clients[server.port], ROUND)
                used.setdefault(server.port, []).append((server.cpu - before) / ROUND * 1e6)
    pairs = list(zip(used[ours.port], used[bare.port], strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    what = "A request, against the same handler on bare FastAPI and uvicorn"
    yield what, "1.35", f"{ratio:.2f} ({mine:.0f} µs to {theirs:.0f} µs of CPU)"


def ask(connections: list[socket], requests: int) -> None:
    for _ in range(requests // len(connections)):
        for connection in connections:
            connection.sendall(REQUEST)
        for connection in connections:
            answer = b""
            while True:
                head, end, body = answer.partition(b"\r\n\r\n")
                if end and (length := LENGTH.search(head)) and len(body) >= int(length[1]):
                    break
                if not (more := connection.recv(65536)):
                    raise ConnectionError("the server closed a connection")
                answer += more
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(answer.decode())


def drain() -> Iterator[Row]:
    sides = {
        "DRAIN_SECONDS=0": ({"DRAIN_SECONDS": "0"}, (PACKAGE, "web")),
        "DRAIN_SECONDS=2": ({"DRAIN_SECONDS": "2"}, (PACKAGE, "web")),
        "the uvicorn command instead": (
            {},
            ("uvicorn", f"{PACKAGE}.routes:app", "--no-access-log"),
        ),
    }
    with folder() as place:
        service = with_routes(place)
        with environment(service) as env:
            for what, (extra, module) in sides.items():
                with started(service, env | extra, *module, path="/running") as server:
                    target = "" if module[0] == "uvicorn" else f"{IN_FLIGHT} answered, exit 0"
                    figure = asyncio.run(stop(server))
                yield f"SIGTERM with {IN_FLIGHT} requests in flight, {what}", target, figure


async def stop(server: Server) -> str:
    """End a server that is busy, while further clients come; says what became of all."""
    async with asyncio.timeout(STOP_SECONDS):
        slow = [asyncio.create_task(fetch(server.port, "/slow")) for _ in range(IN_FLIGHT)]
        while json.loads(await asyncio.to_thread(server.get, "/running")) < IN_FLIGHT:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        server.process.terminate()
        began = time.monotonic()
        comers = [asyncio.create_task(come(server.port)) for _ in range(NEWCOMERS)]
        answered = Counter(await asyncio.gather(*slow))["answered"]
        further: Counter[str] = sum(await asyncio.gather(*comers), Counter())
        code = await asyncio.to_thread(server.process.wait)
        seconds = time.monotonic() - began
    return (
        f"{answered} answered, exit {code}; new ones in the {seconds:.1f} s until then: "
        f"{further['answered']} answered, {further['lost']} lost"
    )


async def come(port: int) -> Counter[str]:
    """Request after request, until nobody listens."""
    outcomes: Counter[str] = Counter()
    while not outcomes["refused"]:
        outcomes[await fetch(port, "/items/7?price=2.5")] += 1
    return outcomes


async def fetch(port: int, path: str) -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused"  # the client knows, and tries another replica
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    except OSError:
        answer = b""
    finally:
        writer.close()
    return "answered" if answer.startswith(b"HTTP/1.1 200") else "lost"


def with_routes(place: Path) -> Path:
    """A bare service with the handlers that are measured."""
    service = ready(place, *BARE)
    shutil.copy(Path(__file__).with_name("routes.py"), service / "src" / PACKAGE)
    return service
