"""A service to be measured: made from the last commit, set up, its processes started."""

import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dev.server import free_port

ROOT = Path(__file__).parent.parent
PACKAGE = "invoiceflow"
START_SECONDS = 60

API = ("flavor=api", "scheduler=false", "example=false", "kubernetes=false")
BARE = (*API, "services=[]")

# Python's variables would change what is measured: PYTHONDONTWRITEBYTECODE above all.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
}

Row = tuple[str, str, str]  # what is measured, its target, the figure


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield Path(name)


def run(*command: str, cwd: Path = ROOT, env: dict[str, str] = ENVIRONMENT) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed, so there is nothing to measure:\n{done.stdout}")
    return done.stdout


def template(folder: Path) -> Path:
    """A clone of the last commit; the same for every service in this folder."""
    clone = folder / "template"
    if not clone.exists():
        run("git", "clone", "--quiet", str(ROOT), str(clone))
    return clone


def generate(folder: Path, *answers: str, name: str = "service") -> Path:
    data = [word for answer in answers for word in ("--data", answer)]
    service = folder / name
    command = ["copier", "copy", "--defaults", "--vcs-ref", "HEAD", *data]
    run(*command, str(template(folder)), str(service))
    return service


def ready(folder: Path, *answers: str, name: str = "service") -> Path:
    """A service whose bin/setup has run."""
    service = generate(folder, *answers, name=name)
    run("bin/setup", cwd=service)
    return service


@contextlib.contextmanager
def environment(service: Path) -> Iterator[dict[str, str]]:
    """The variables that bin/dev gives to a process; the backing services run meanwhile."""
    tell = "import json, os, sys; print(json.dumps(dict(os.environ) | {'': ''}), flush=True)"
    command = ["bin/dev", ".venv/bin/python", "-c", f"{tell}; sys.stdin.read()"]
    said = []
    with subprocess.Popen(
        command,
        cwd=service,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            if line.endswith('"": ""}\n'):  # the lines before it are the log of the migrations
                variables: dict[str, str] = json.loads(line)
                del variables[""]
                yield variables
                return
            said.append(line)
    sys.exit(f"bin/dev did not start, so there is nothing to measure:\n{''.join(said)}")


@dataclass
class Server:
    """A process that answers requests."""

    process: subprocess.Popen[bytes]
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS)

    def get(self, path: str, times: int = 1) -> bytes:
        """Ask over one connection, so many times; returns the last body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        with contextlib.closing(connection):
            for _ in range(times):
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise ConnectionError(f"{path} was answered with {answer.status}")
        return body

    @property
    def cpu(self) -> float:
        """Seconds of the process so far, by its own clock: /proc counts in steps of 10 ms."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    @property
    def rss(self) -> float:
        """MiB in memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextlib.contextmanager
def started(
    service: Path, env: dict[str, str], *module: str, path: str = "/readyz"
) -> Iterator[Server]:
    """Run a module, its log into a pipe that is drained; yields at the first 200."""
    port = free_port()
    with tempfile.TemporaryFile() as said:
        log = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=said)
        process = subprocess.Popen(
            [str(service / ".venv/bin/python"), "-m", *module],
            cwd=service,
            env=env | {"PORT": str(port), "UVICORN_PORT": str(port)},
            stdout=log.stdin,
            stderr=subprocess.STDOUT,
        )
        server = Server(process, port)
        try:
            up = until(lambda: server.get(path), process)
            if up:
                yield server
        finally:
            process.terminate()
            process.wait()
            log.communicate()
        if not up:
            said.seek(0)
            text = said.read().decode()
            sys.exit(f"{' '.join(module)} gave no 200 on {path}: nothing to measure.\n{text}")


def until(ask: Callable[[], object], process: subprocess.Popen[bytes]) -> bool:
    """Whether this succeeds before the process ends or the time is over."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            ask()
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False


def children() -> float:
    """CPU-seconds of every process that was started from here and has ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
