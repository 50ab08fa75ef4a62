"""A backing service as a process of this one: started, awaited, stopped, never left behind."""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 30
TURNS = itertools.count(random.randrange(12_768))


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    environment: dict[str, str] | None = None,
    prefix: Sequence[str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Run a server until the block ends; one that then does not stop in time is killed.

    log: where its output goes. ready: whether it answers yet. stop: the signal that ends it.
    prefix: a command that starts it with other rights, in place of the one that ends it with us.
    """
    with log.open("ab") as output:
        server = subprocess.Popen(
            [*(leash(stop) if prefix is None else prefix), *command],
            env=os.environ | (environment or {}),
            start_new_session=True,  # Ctrl-C is for the processes that use it; it stops last
            stderr=output,
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if server.poll() is not None or time.monotonic() > deadline:
                name = Path(command[0]).name
                raise SystemExit(f"{name} did not start: {log} says why.")
            time.sleep(0.02)
        yield
    finally:
        server.send_signal(stop)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def leash(stop: signal.Signals) -> list[str]:
    """A prefix by which Linux stops a server when this process dies, however it dies."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", stop.name.removeprefix("SIG"), "--"] if setpriv else []


def free_port() -> int:
    """A port that nothing listens on, each time another: a server takes a while to take it.

    It lies below those that the system gives to outgoing connections. Who asks again and again
    whether a server is up is given such a port himself one day: the very one, connected to itself.
    Then the server finds it taken.
    """
    while True:
        port = 20_000 + next(TURNS) % 12_768
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
