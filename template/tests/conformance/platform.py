"""A platform in miniature: processes with nothing but their environment, pipes, a balancer."""

import asyncio
import errno
import itertools
import json
import os
import re
import shlex
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import trustme
from httpx2 import AsyncClient, Limits, Response, TransportError

from .catalogue import Broken, require
from dev import services
from dev.server import free_port
from tests.pipe import Pipe, pipe

SECONDS = 30  # long enough for a busy machine; what holds waits far less
HERE = Path(__file__).parent
# How a balancer passes on what somebody asks of the service's name.
FORWARDED = {
    "Host": "service.example",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
}
AUDIT = "CONFORMANCE_AUDIT"  # the file that names forbidden acts
LOOKS_UP = "socket.getaddrinfo"
STARTS = ("os.exec", "os.posix_spawn", "os.system", "subprocess.Popen")
TLS = {"amqp": "amqps", "http": "https", "redis": "rediss"}  # schemes; PostgreSQL's says it else

Event = dict[str, Any]


async def until(done: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until this, or what it awaits, is true; Broken says what did not happen."""
    began = time.monotonic()
    while True:
        found = done()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        waited = time.monotonic() - began
        require(waited < seconds, f"not within {seconds:g} s: {what}")
        await asyncio.sleep(max(0.02, waited / 10))  # to look takes time that others could use


class Process:
    """One process of the Procfile and what it has printed."""

    def __init__(
        self,
        type: str,
        child: asyncio.subprocess.Process,
        environment: dict[str, str],
        own: Path,
        client: AsyncClient,
    ) -> None:
        self.type, self.child, self.own, self.client = type, child, own, client
        self.environment = environment
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            asyncio.create_task(self._read(child.stdout, self.lines)),
            asyncio.create_task(self._read(child.stderr, self.errors)),
        ]

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream
        async for line in stream:
            lines.append(line.decode(errors="replace").rstrip("\n"))

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def port(self) -> int:
        return int(self.environment.get("PORT") or 0)

    @property
    def alive(self) -> bool:
        return self.child.returncode is None

    @property
    def events(self) -> list[Event]:
        """The lines that are JSON objects."""
        found = []
        for line in self.lines:
            with suppress(ValueError):
                one = json.loads(line)
                if isinstance(one, dict):
                    found.append(one)
        return found

    def said(self, event: str, **fields: object) -> Event | None:
        wanted = {"event": event, **fields}.items()
        return next((one for one in self.events if wanted <= one.items()), None)

    async def event(self, event: str, **fields: object) -> Event:
        """Wait for an event of this name with these fields."""
        what = f"{self.type} says {event} {fields or ''}; it says {self.lines[-3:]} {self.errors}"
        found: Event = await until(lambda: self.said(event, **fields), what)
        return found

    def jobs(self, event: str) -> list[str]:
        """The ids of the jobs of which it said this."""
        return [one["job_id"] for one in self.events if one["event"] == event]

    async def begins(self, number: int) -> None:
        """Wait until it has begun so many jobs."""
        what = f"{self.type} begins {number} jobs; it says {self.tail()}"
        await until(lambda: len(self.jobs("job.started")) >= number, what)

    async def speaks(self) -> None:
        """Wait for its first line."""
        await until(lambda: self.lines, f"{self.type} says something; {self.errors}")

    async def ready(self) -> None:
        """Wait for 200 of /readyz."""

        async def asked() -> Response | None:
            answer = await self.asked("/readyz")
            return answer if answer.status_code == 200 else None

        yes = await until(asked, f"{self.type} is ready; it says {self.tail()}")
        nowhere = await self.get("/no-such-address")
        said = (nowhere.status_code, nowhere.text) != (200, yes.text)
        require(said, f"{self.type} says yes to everything, so its /readyz says nothing")

    def listens(self) -> bool:
        """Whether a connection is not refused; to ask costs next to nothing."""
        with socket.socket() as client:
            client.settimeout(0.1)  # of who listens and takes no more just now
            return client.connect_ex(("127.0.0.1", self.port)) != errno.ECONNREFUSED

    async def asks(self, method: str, path: str, **more: Any) -> Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return await self.client.request(method, url, **more)

    async def get(self, path: str) -> Response:
        return await self.asks("GET", path)

    async def pages(self) -> list[str]:
        """The paths that may be asked for by GET and take nothing in, as its OpenAPI has them."""
        listed = await self.get("/openapi.json")
        paths = listed.json()["paths"] if listed.status_code == 200 else {}
        return [path for path, methods in paths.items() if "get" in methods and "{" not in path]

    async def asked(self, path: str) -> Response:
        """The answer, as soon as it listens."""

        async def answer() -> Response | None:
            require(self.alive, f"{self.type} ended: {self.tail()}")
            with suppress(TransportError):
                return await self.get(path) if self.listens() else None
            return None

        found: Response = await until(answer, f"{self.type} answers; it says {self.tail()}")
        return found

    @property
    def text(self) -> str:
        return "\n".join([*self.lines, *self.errors])

    def tail(self) -> str:
        return " ".join([*self.lines[-3:], *self.errors[-3:]])[-600:]

    def signal(self, number: signal.Signals) -> None:
        """To the main process alone, as a container engine does."""
        with suppress(ProcessLookupError):
            self.child.send_signal(number)

    async def ended(self, seconds: float = SECONDS) -> int:
        """Wait for its end; the exit code."""
        try:
            async with asyncio.timeout(seconds):
                await self.child.wait()
        except TimeoutError:
            require(False, f"{self.type} still runs {seconds:g} s later; it says {self.tail()}")
        await self._drained()
        return self.child.returncode or 0

    async def stop(self, seconds: float = SECONDS) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended(seconds)

    async def kill(self) -> None:
        """End it and what it has started, as a machine that fails does."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.child.wait()
        await self._drained()

    async def _drained(self) -> None:
        _, late = await asyncio.wait(self._readers, timeout=5)  # a child of it may hold the pipe
        for reader in late:
            reader.cancel()

    def own_seconds(self) -> tuple[float, float]:
        """CPU seconds so far, and seconds spent waiting for a core."""
        _, waited, _ = Path(f"/proc/{self.pid}/schedstat").read_text().split()
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        ran = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # its children's too
        return ran, int(waited) / 1e9


def package(commands: dict[str, str]) -> str:
    """The package that the Procfile runs: PACKAGE of `python -m PACKAGE TYPE`."""
    found = re.search(r"-m ([A-Za-z_]\w*)", " ".join(commands.values()))
    return found[1] if found else ""


class Deploy:
    """A release of the service on backing services of its own, behind pipes."""

    def __init__(
        self, root: Path, commands: dict[str, str], environment: dict[str, str], folder: Path
    ) -> None:
        self.root, self.commands = root, commands
        self.package = package(commands)
        self.environment, self.folder = environment, folder
        self.places: dict[str, str] = {}  # variables that point past the pipes
        self.pipes: dict[str, Pipe] = {}
        self.urls: dict[str, str] = {}  # of the pipes
        self.processes: list[Process] = []
        self.audited = False
        # A connection for each request, as from many users.
        self.client = AsyncClient(
            timeout=SECONDS, verify=False, limits=Limits(max_keepalive_connections=0)
        )
        bin = folder / "bin"
        bin.mkdir()
        # All of a PATH that a service may count on: its interpreter.
        (bin / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (bin / "python").chmod(0o755)

    @property
    def audit(self) -> Path:
        return self.folder / "audit"

    async def start(
        self, type: str, *words: str, stdin: str | None = None, **variables: str | None
    ) -> Process:
        """Start a process of the Procfile; None takes a variable away."""
        own, environment = self._surroundings(type)
        argv = [*shlex.split(self.commands[type]), *words]
        if self.audited:
            environment |= {AUDIT: str(self.audit), "PYTHONPATH": str(HERE / "audit")}
            launcher = [sys.executable, "-I", str(HERE / "readonly.py")]
            argv = [*launcher, str(own), str(self.audit), *argv]
        merged = {**environment, **variables}
        given = {name: value for name, value in merged.items() if value is not None}
        return await self._spawn(type, argv, given, own, stdin)

    async def contain(self, type: str, *container: str) -> Process:
        """Start a process type in a container; the words are `docker run`'s, the image last."""
        own, environment = self._surroundings(type)
        given = [f"--env={name}" for name in environment if name not in ("PATH", "TMPDIR")]
        environment = {**os.environ, **environment, "PATH": os.environ["PATH"]}
        argv = ["docker", "run", *given, *container, type]
        return await self._spawn(type, argv, environment, own)

    def _surroundings(self, type: str) -> tuple[Path, dict[str, str]]:
        """A folder for a process's temporary files, and its environment."""
        own = Path(tempfile.mkdtemp(prefix=f"{type}-", dir=self.folder))
        environment = self.environment | {"PATH": str(self.folder / "bin"), "TMPDIR": str(own)}
        if "PORT" in environment:
            environment["PORT"] = str(free_port())
        return own, environment | self.urls | {"PYTHONDONTWRITEBYTECODE": "1"}

    async def _spawn(
        self,
        type: str,
        argv: list[str],
        environment: dict[str, str],
        own: Path,
        stdin: str | None = None,
    ) -> Process:
        child = await asyncio.create_subprocess_exec(
            *argv,
            cwd=self.root,
            env=environment,
            limit=2**24,
            start_new_session=True,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert child.stdin
        child.stdin.write((stdin or "").encode())
        child.stdin.close()
        process = Process(type, child, environment, own, self.client)
        self.processes.append(process)
        return process

    async def run(self, type: str, *words: str, **variables: str | None) -> Process:
        """Run a process to its end, which must be good."""
        process = await self.start(type, *words, **variables)
        code = await process.ended(120)
        require(code == 0, f"{type} ended with {code}: {process.tail()}")
        return process

    async def up(self, *types: str, **variables: str) -> list[Process]:
        """A process of each of these types that there is; the web ones are ready."""
        started = [await self.start(type, **variables) for type in types if type in self.commands]
        await asyncio.gather(*(one.ready() for one in started if one.type == "web"))
        return started

    @property
    def acts(self) -> list[str]:
        """What the audit hook noted."""
        return self.audit.read_text().splitlines()

    @property
    def starts(self) -> list[str]:
        """The acts that start a program."""
        return [act for act in self.acts if act.startswith(STARTS)]

    @property
    def writes(self) -> list[str]:
        """The acts by which something was to be written."""
        return [act for act in self.acts if not act.startswith((*STARTS, LOOKS_UP))]

    @property
    def hosts(self) -> set[str]:
        """The names of hosts that were looked up."""
        return {act.split()[1] for act in self.acts if act.startswith(LOOKS_UP)}

    @property
    def alive(self) -> list[Process]:
        return [one for one in self.processes if one.alive]

    def of(self, type: str) -> list[Process]:
        return [one for one in self.alive if one.type == type]

    @property
    def named(self) -> set[int]:
        """The ports of all URLs that a process is given."""
        urls = (self.environment | self.urls).values()
        return {urlsplit(url).port or 443 for url in urls if "://" in url}

    async def used(self) -> None:
        """Wait until every backing service has been asked, unless nobody asks it."""
        with suppress(Broken):
            await until(lambda: all(one.connections for one in self.pipes.values()), "all are used")

    async def cut(self) -> None:
        """Every backing service goes away."""
        await asyncio.gather(*(one.cut() for one in self.pipes.values()))

    async def mend(self) -> None:
        """And comes back, where it was."""
        await asyncio.gather(*(one.open() for one in self.pipes.values()))

    def hold(self) -> None:
        """Every backing service accepts, and answers no more."""
        for one in self.pipes.values():
            one.hang()

    async def held(self) -> None:
        """Wait until somebody waits for one of them."""
        await until(
            lambda: any(one.holding.is_set() for one in self.pipes.values()), "a service is asked"
        )

    def flow(self) -> None:
        for one in self.pipes.values():
            one.flow()

    @property
    def answers(self) -> int:
        """Pieces that came from backing services so far."""
        return sum(one.answers for one in self.pipes.values())

    async def answering(self, number: int) -> None:
        """Wait for so many more of them."""
        wanted = self.answers + number
        await until(lambda: self.answers >= wanted, f"{number} answers of backing services")

    def seek(self, pattern: re.Pattern[bytes] | None) -> None:
        """Note what processes say to a backing service that is like this."""
        for one in self.pipes.values():
            one.sought = pattern

    @property
    def found(self) -> list[bytes]:
        """What was noted."""
        return [one for at in self.pipes.values() for one in at.found]

    def slow(self, seconds: float) -> None:
        """Every answer of a backing service comes so much later."""
        for one in self.pipes.values():
            one.delay = seconds

    async def end(self) -> None:
        self.flow()
        await asyncio.gather(*(process.kill() for process in self.processes))
        await self.client.aclose()


class Balancer:
    """Sends each request to the next process that is ready, and tries nothing twice."""

    def __init__(self, deploy: Deploy) -> None:
        self.deploy = deploy
        self.turns = itertools.count()
        self.seen: set[Process] = set()  # to be ready
        self.last: Process | None = None
        self.fixed: Process | None = None  # takes every request, ready or not
        self.forwarded = FORWARDED
        self.leads: list[str] = []  # answers that lead to where a process listens

    async def request(self, method: str, path: str, **more: Any) -> Response:
        self.last = self.fixed or await until(self._next, "a web process is ready")
        assert self.last
        headers = self.forwarded | more.pop("headers", {})
        answer = await self.last.asks(method, path, headers=headers, **more)
        there = rf"(localhost|127\.0\.0\.1|0\.0\.0\.0):{self.last.port}\b"
        if self.forwarded and (found := re.search(there, f"{answer.headers} {answer.text}")):
            self.leads.append(f"{method} {path} leads to {found[0]}")
        return answer

    async def _next(self) -> Process | None:
        webs = self.deploy.of("web")
        if not webs:
            return None
        one = webs[next(self.turns) % len(webs)]
        with suppress(TransportError):
            if one in self.seen or (await one.get("/readyz")).status_code == 200:
                self.seen.add(one)
                return one
        return None


OWN = re.compile(
    r"(?P<token>(?<=\"token\":\")[^\"]+)|(?P<time>\d{4}-\d\d-\d\dT[^\"]+)"
    r"|(?P<id>[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})"
)


class Client:
    """Who tells the story: what it asks, and a transcript of what it is answered.

    Ids stand in the transcript by their first appearance, times and tokens as such, so that two
    tellings can be compared.
    """

    def __init__(
        self,
        deploy: Deploy,
        *,
        disturbing: bool = False,
        all_at_once: bool = False,
        insisting: bool = False,
        others: dict[str, str] | None = None,
    ) -> None:
        self.deploy, self.disturbing, self.all_at_once = deploy, disturbing, all_at_once
        self.insisting = insisting  # a request that fails is repeated, as those that are told to do
        self.others = others or {}  # variables of what takes the place of the killed
        self.environment = deploy.environment
        self.package = deploy.package
        self.balancer = Balancer(deploy)
        self.transcript: list[str] = []
        self.request_ids: list[str] = []  # of the answers
        self.headers: dict[str, str] = {}
        self.killed: list[Process] = []
        self.steps = 0
        self._ids: dict[str, str] = {}

    async def ask(self, status: int, method: str, path: str, **more: Any) -> Response:
        """Ask; the answer must have this status."""
        headers = self.headers | more.pop("headers", {})
        answer = await self._answer(method, path, headers=headers, **more)
        self.request_ids.append(answer.headers.get("x-request-id", ""))
        said = f"{method} {path} {answer.status_code} {answer.text}"
        self.transcript.append(OWN.sub(self._name, said))
        require(answer.status_code == status, f"{self.transcript[-1][:300]}, not {status}")
        return answer

    async def _answer(self, *words: str, **more: Any) -> Response:
        async def answered() -> Response | None:
            with suppress(TransportError):
                answer = await self.balancer.request(*words, **more)
                return None if answer.is_server_error else answer
            return None

        if not self.insisting:
            return await self.balancer.request(*words, **more)
        repeated: Response = await until(answered, f"{' '.join(words)} is answered at last")
        return repeated

    async def until(self, status: int, path: str, having: str = "") -> None:
        """Ask again and again until this is the answer; how often stands nowhere."""
        seen = ""

        async def done() -> bool:
            nonlocal seen
            answer = await self.balancer.request("GET", path, headers=self.headers)
            seen = f"{answer.status_code} {answer.text[:200]}"
            return answer.status_code == status and having in answer.text

        try:
            await until(done, f"GET {path} {status} {having}")
        except Exception as error:
            raise type(error)(f"{error}; last: {seen}") from None

    async def console(self, code: str) -> str:
        """What the console of the release prints for this code."""
        console = await self.deploy.start("console", stdin=code)
        ended = await console.ended()
        require(ended == 0, f"console ended with {ended}: {console.tail()}")
        return "\n".join(console.lines)

    async def disturb(self) -> None:
        """Here a telling may kill the web process that answered last, and a worker, or all of both
        at every other step."""
        if not self.disturbing:
            return
        victims = [self.balancer.last, *self.deploy.of("worker")[:1]]
        if self.all_at_once:
            self.steps += 1
            victims = [*self.deploy.of("web"), *self.deploy.of("worker")] * (self.steps % 2)
        for victim in victims:
            if victim and victim.alive:
                await victim.kill()
                self.killed.append(victim)
                await self.deploy.start(victim.type, **self.others)

    def _name(self, own: re.Match[str]) -> str:
        if own.lastgroup == "id":
            return self._ids.setdefault(own[0], f"id-{len(self._ids)}")
        return str(own.lastgroup)


@asynccontextmanager
async def deployed(
    root: Path,
    commands: dict[str, str],
    given: dict[str, str],
    *,
    variables: dict[str, str] | None = None,
    like: dict[str, str] | None = None,
    audited: bool = False,
    encrypted: bool = False,
) -> AsyncIterator[Deploy]:
    """A deploy in places made for it, removed at the end.

    given: variables that point at the backing services. variables: others, beside .env.example's.
    like: the places of another deploy, to begin with what is there. encrypted: its URLs ask for
    TLS, and nothing else gets through.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        places = ExitStack()
        stack.push_async_callback(asyncio.to_thread, places.close)
        isolated = services.isolated(folder / "none", given, like)
        urls = await asyncio.to_thread(places.enter_context, isolated)
        environment = services.example(root) | urls | (variables or {})
        deploy = Deploy(root, commands, environment, folder)
        deploy.places = urls
        for name, url in environment.items():
            if name in urls and "://" in url:
                made = deploy.pipes[name] = await stack.enter_async_context(pipe(url))
                deploy.urls[name] = made.url
        if encrypted:
            encrypt(deploy)
        stack.push_async_callback(deploy.end)
        deploy.audited = audited
        yield deploy


def encrypt(deploy: Deploy) -> None:
    """Let its URLs ask for TLS, by a certificate of an authority of its own, where they do not."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = str(deploy.folder / "authority.pem")
    authority.cert_pem.write_to_path(trusted)
    deploy.environment["SSL_CERT_FILE"] = trusted
    for name, at in deploy.pipes.items():
        url = urlsplit(at.url)
        if url.scheme in TLS:
            url = url._replace(scheme=TLS[url.scheme])
        elif url.scheme in ("postgresql", "postgres") and "sslmode" not in url.query:
            wants = urlencode({"sslmode": "verify-full", "sslrootcert": trusted})
            url = url._replace(query="&".join(filter(None, [url.query, wants])))
        else:
            continue  # it asks for TLS already, or for what the kit does not know
        deploy.urls[name], at.tls = urlunsplit(url), context
