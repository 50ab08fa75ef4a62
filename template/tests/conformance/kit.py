"""The service under test: its files, its story, and deploys of it on a platform in miniature."""

import asyncio
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml
from httpx2 import Response

from . import platform
from .platform import Client, Deploy, Process
from dev import services
from dev.__main__ import ONE_OFF

# The job of a worker that was killed is another's before the story stops waiting for it.
SOON = {"WORKER_STALLED_SECONDS": "2"}
WATCH_SECONDS = 2  # what must not happen before a release
CHANGES = re.compile(  # of a schema
    rb"(?i)\b(?:create|alter|drop)\s+(?:unique\s+)?(?:table|index|schema|sequence|type|view)\b[^\0;]*"
)
Made = TypeVar("Made")

FORMER = "former release"
MIGRATION = "migration of Alembic"
LISTENS = "00010000"  # the flag of a listening socket in /proc/net/unix
LISTENS_TCP, CONNECTED = "0A", "01"  # the states of one in /proc/net/tcp


@dataclass
class Told:
    """What was seen when the story was told to one replica, to three of which two are the next
    release's, and to three of which some were killed: on a read-only file system, with every
    forbidden act noted, and begun before anything was released."""

    deploy: Deploy
    tellings: dict[str, Client]
    early: list[int]  # codes of /readyz before anything was released
    unforeseen: list[Response]  # to what needs a schema, before there was one
    listening: dict[int, set[str]]  # addresses, by process
    children: dict[int, list[int]]
    cores: dict[int, int]  # on how many it may run
    versions: dict[int, str] = field(default_factory=dict)  # what /version says, by process
    gone: list[Process] = field(default_factory=list)  # that ended by themselves
    codes: dict[int, int] = field(default_factory=dict)  # of those that were told to stop

    @property
    def left(self) -> list[str]:
        """What lies in the folders for temporary files."""
        return [str(path) for one in self.deploy.processes for path in one.own.rglob("*")]

    @property
    def changes(self) -> list[bytes]:
        """What processes other than the release changed of a schema."""
        return self.deploy.found

    def transcript(self, telling: str) -> list[str]:
        return self.tellings[telling].transcript


@dataclass
class Kit:
    """What a check works with."""

    root: Path
    """The checkout of the service."""

    given: dict[str, str] = field(default_factory=dict)
    """Variables that point at the backing services."""

    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Closed after the last check."""

    _made: dict[Callable[["Kit"], Any], asyncio.Task[Any]] = field(default_factory=dict)
    _left: list[Deploy] = field(default_factory=list)

    @functools.cached_property
    def procfile(self) -> dict[str, str]:
        """Process type to command."""
        return services.processes(self.root)

    @functools.cached_property
    def serving(self) -> list[str]:
        """The process types that run until they are stopped."""
        return [name for name in self.procfile if name not in ONE_OFF]

    @functools.cached_property
    def example(self) -> dict[str, str]:
        """The variables of .env.example with their values."""
        return services.example(self.root)

    @functools.cached_property
    def files(self) -> list[Path]:
        """Every file that git has or would take, below the root; without git, every file."""
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True)
        if done.returncode == 0:
            names = [self.root / name for name in done.stdout.split("\0") if name]
        else:
            hidden = {".venv", ".dev", "__pycache__", ".mypy_cache", ".ruff_cache"}
            names = [path for path in self.root.rglob("*") if not hidden & set(path.parts)]
        return sorted(path for path in names if path.is_file())

    def matching(self, *patterns: str) -> list[Path]:
        """The files whose path below the root matches one of these; a * takes slashes too."""
        return [
            path
            for path in self.files
            if any(fnmatch(path.relative_to(self.root).as_posix(), one) for one in patterns)
        ]

    def documents(self, *patterns: str) -> dict[Path, list[Any]]:
        """The YAML documents of the files that match."""
        return {
            path: [one for one in yaml.safe_load_all(path.read_text()) if one is not None]
            for path in self.matching(*patterns)
        }

    @functools.cached_property
    def migrations(self) -> list[Path]:
        """The migrations of Alembic."""
        return [one for one in self.matching("*/versions/*.py") if one.stem != "__init__"]

    @functools.cached_property
    def package(self) -> str:
        """The package that the Procfile runs."""
        return platform.package(self.procfile)

    @functools.cached_property
    def chapters(self) -> list[ModuleType]:
        """The story: every tests/**/story*.py, in order."""
        return [loaded(path) for path in sorted((self.root / "tests").rglob("story*.py"))]

    def has(self, name: str) -> bool:
        """Whether there is this process type, variable, part of the story (story.NAME), path, a
        former release, migration of Alembic, or any backing service (://)."""
        if name == "://":
            return bool(self.urls)
        if name == FORMER:
            return bool(self.former)
        if name == MIGRATION:
            return bool(self.migrations)
        if name.startswith("story."):
            return self.offered(name[6:]) is not None
        known = name in self.procfile or name in self.example
        return known or (self.root / name).exists()

    def offered(self, name: str) -> Any:
        """What the first chapter that has it calls so, or None."""
        return next((getattr(one, name) for one in self.chapters if hasattr(one, name)), None)

    async def tell(self, client: Client) -> Client:
        """Tell the whole story."""
        for chapter in self.chapters:
            if hasattr(chapter, "tell"):
                await chapter.tell(client)
        return client

    @property
    def urls(self) -> list[str]:
        """The variables that point at a backing service by a URL."""
        return [name for name in self.example if "://" in self.given.get(name, "")]

    @property
    def required_urls(self) -> list[str]:
        """Those of them without which there is nothing to attach."""
        return [name for name in self.urls if name.endswith("_URL")]

    def copied(self, to: Path) -> Path:
        """A copy of the checkout, without what git ignores."""
        for path in self.files:
            target = to / path.relative_to(self.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        return to

    def sources(self, checkout: Path) -> Path:
        """Where the package lies in a checkout."""
        return checkout / "src" if (checkout / "src").is_dir() else checkout

    @asynccontextmanager
    async def deploy(self, *, released: bool = True, **more: Any) -> AsyncIterator[Deploy]:
        """A deploy of its own, with a copy of what a release has made: see platform.deployed."""
        if released and "like" not in more:
            more["like"] = await self.released()
        where = (self.root, self.procfile, self.given)
        async with platform.deployed(*where, **more) as deploy:
            yield deploy

    async def released(self) -> dict[str, str]:
        """Variables of places in which nothing has happened but a release."""
        return (await self.once(Kit.release)).places

    async def release(self) -> Deploy:
        """A deploy in which nothing has happened but a release."""
        made = await self.stack.enter_async_context(self.deploy(released=False))
        if "release" in self.procfile:
            await made.run("release")
        return made

    async def once(self, make: Callable[["Kit"], Coroutine[Any, Any, Made]]) -> Made:
        """What this makes, the same for every check that asks."""
        if make not in self._made:
            self._made[make] = asyncio.create_task(make(self))
        made: Made = await asyncio.shield(self._made[make])
        return made

    @property
    def touching(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The requests that need a backing service: method, path, httpx2's other options."""
        return [one for chapter in self.chapters for one in getattr(chapter, "TOUCH", [])]

    async def touch(self, web: Process) -> dict[str, Response]:
        """The answers of the requests that need a backing service, asked at once, by path."""
        asking = (web.asks(method, path, **more) for method, path, more in self.touching)
        answers = await asyncio.gather(*asking)
        return {path: answer for (_, path, _), answer in zip(self.touching, answers, strict=True)}

    async def told(self) -> Told:
        """The story as it was told for all checks that only look."""
        return await self.once(Kit._tell_all)

    @asynccontextmanager
    async def whole(self, but: str = "", webs: int = 1) -> AsyncIterator[Deploy]:
        """A deploy with processes of each type but this one, at least so many of web: as an
        earlier check left it that held, or a new one."""
        least = {type: webs if type == "web" else 1 for type in self.serving if type != but}

        def missing(deploy: Deploy) -> list[str]:
            return [type for type in least for _ in range(least[type] - len(deploy.of(type)))]

        if self._left:
            deploy = min(self._left, key=lambda left: (len(missing(left)), "web" in missing(left)))
            self._left.remove(deploy)
        else:
            deploy = await self.stack.enter_async_context(self.deploy())
        await asyncio.gather(*(one.stop() for one in deploy.of(but)))
        await deploy.up(*missing(deploy))
        yield deploy
        self._left.append(deploy)

    @asynccontextmanager
    async def left(self, **more: Any) -> AsyncIterator[Deploy]:
        """A new deploy that is left to others if the check holds."""
        deploy = await self.stack.enter_async_context(self.deploy(**more))
        yield deploy
        self._left.append(deploy)

    async def _tell_all(self) -> Told:
        this, later = (
            {"RELEASE_ID": f"{self.package}-{name}", "REVISION": uuid.uuid4().hex}
            for name in ("1234567-abcdef", "7654321-fedcba")
        )
        deploying = self.deploy(released=False, variables=this | SOON, audited=True)
        deploy = await self.stack.enter_async_context(deploying)
        deploy.seek(CHANGES)
        started = [await deploy.start(type) for type in self.serving]
        for process in started:
            await process.speaks()
        early, unforeseen = [], []
        if "release" in self.procfile:
            over = time.monotonic() + WATCH_SECONDS
            while time.monotonic() < over:
                early += [(await web.asked("/readyz")).status_code for web in deploy.of("web")]
                await asyncio.sleep(0.1)
            touched = [await self.touch(web) for web in deploy.of("web")]
            unforeseen = [one for answers in touched for one in answers.values()]
            deploy.seek(None)
            await deploy.run("release")
            deploy.seek(CHANGES)
        await asyncio.gather(*(web.ready() for web in deploy.of("web")))
        tellings = {"one": await self.tell(Client(deploy))}
        await deploy.up("web", "web", "worker", **later)
        await deploy.used()
        tellings["three"] = await self.tell(Client(deploy))
        alive = deploy.alive
        told = Told(
            deploy,
            tellings,
            early,
            unforeseen,
            listening={one.pid: sockets(one.pid) for one in alive},
            children={one.pid: family(one.pid) for one in alive},
            cores={one.pid: len(os.sched_getaffinity(one.pid)) for one in alive},
        )
        for web in deploy.of("web"):
            told.versions[web.pid] = (await web.get("/version")).text
        disturbing = Client(deploy, disturbing=True, others=later)
        tellings["killed"] = await self.tell(disturbing)
        ended = [one for one in deploy.processes if one.type in self.serving and not one.alive]
        told.gone = [one for one in ended if one not in disturbing.killed]
        alive = deploy.alive
        codes = await asyncio.gather(*(one.stop() for one in alive))
        told.codes = {one.pid: code for one, code in zip(alive, codes, strict=True)}
        return told

    @functools.cached_property
    def former(self) -> str:
        """The release before this one: git's last tag before what is here, or its last commit."""
        changed = bool(git(self.root, "status", "--porcelain"))
        before = "HEAD" if changed else "HEAD^"
        tag = git(self.root, "describe", "--tags", "--abbrev=0", before)
        return tag or git(self.root, "rev-parse", "--short", "--verify", "--quiet", before)

    def as_it_was(self, place: Path) -> "Kit":
        """The former release, its files put into this folder."""
        archive = ["git", "archive", f"--output={place}/tar", self.former]
        subprocess.run(archive, cwd=self.root, check=True)
        with tarfile.open(place / "tar") as tar:
            tar.extractall(place, filter="data")
        return Kit(place, self.given, self.stack)

    def tree(self) -> dict[str, str]:
        """The digest of every file that git has or would take."""
        return digests(self.root, self.files)


def loaded(path: Path) -> ModuleType:
    """This file as a module, wherever it lies."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(root: Path, *words: str) -> str:
    """What git says; nothing where it fails."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    return "" if done.returncode else done.stdout.strip()


def digests(folder: Path, files: list[Path]) -> dict[str, str]:
    """SHA-256 of these files, by their path below the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def sockets(pid: int) -> set[str]:
    """Where a process listens: address and port in hexadecimal, as /proc has them, or a file."""
    found = {here for here, _ in own_sockets(pid, LISTENS_TCP)}
    numbers = inodes(pid)
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == LISTENS and words[6] in numbers:
            found.add(f"unix:{''.join(words[7:]).replace(':', '_')}")
    return found


def peers(pid: int) -> set[int]:
    """The ports to which a process has opened connections."""
    listening = {here.rpartition(":")[2] for here, _ in own_sockets(pid, LISTENS_TCP)}
    connected = own_sockets(pid, CONNECTED)
    own = {here for here, _ in connected}  # some libraries wake themselves up through a connection
    return {
        port_of(there)
        for here, there in connected
        if there not in own and here.rpartition(":")[2] not in listening
    }


def port_of(address: str) -> int:
    """The port of an address as /proc has it."""
    return int(address.rpartition(":")[2], 16)


def own_sockets(pid: int, state: str) -> list[tuple[str, str]]:
    """The TCP sockets of a process that are in this state: both ends, as /proc has them."""
    numbers = inodes(pid)
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [(one[1], one[2]) for one in lines if one[3] == state and one[9] in numbers]


def inodes(pid: int) -> set[str]:
    """The numbers of the sockets that a process holds."""
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.add(str(one.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def family(pid: int) -> list[int]:
    """The children of a process."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
