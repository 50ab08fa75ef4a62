"""Run the service on this machine: `bin/dev`, or `bin/dev COMMAND` in the same environment."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from honcho.environ import parse_procfile  # type: ignore[import-untyped]
from honcho.manager import Manager  # type: ignore[import-untyped]
from honcho.printer import Message, Printer  # type: ignore[import-untyped]

from .services import ROOT, example, given, started

ONE_OFF = {"release", "console"}


def main(command: list[str]) -> int:
    environment = example() | given()
    # The Procfile says `python`: let that be this environment's.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    processes = parse_procfile((ROOT / "Procfile").read_text()).processes
    with started(ROOT / ".dev", given()) as urls:
        environment |= urls
        for variable, url in urls.items():
            print(f"{variable}={url}", file=sys.stderr, flush=True)
        if "release" in processes:
            released = subprocess.run(processes["release"], shell=True, env=environment, cwd=ROOT)
            if released.returncode:
                return released.returncode
        if command:
            line = processes.get(command[0]) if len(command) == 1 else None
            return subprocess.run(line or command, shell=bool(line), env=environment).returncode
        manager = Manager(Readable() if sys.stdout.isatty() else None)
        for name, line in processes.items():
            if name not in ONE_OFF:
                manager.add_process(name, f"exec {line}", env=environment, cwd=str(ROOT))
        if "web" in processes:
            url = f"http://127.0.0.1:{environment['PORT']}"
            threading.Thread(target=_announce, args=(url,), daemon=True).start()
        manager.loop()
        return manager.returncode or 0


class Readable(Printer):  # type: ignore[misc]
    """Shows events to a person at a terminal; a pipe gets the lines as they are."""

    def write(self, message: Message) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            event = json.loads(message.data)
            words = [event.pop("level").upper(), event.pop("event")]
            trace = event.pop("exception", "")
            for name in ("ts", "process", "release", "revision"):
                event.pop(name)
            words += [f"{name}={value}" for name, value in event.items()]
            message = message._replace(data="\n".join([" ".join(words), *trace.splitlines()]))
        super().write(message)


def _announce(url: str) -> None:
    """Print the URL as soon as the service is ready there."""
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz"):
            print(f"\nReady: {url}/docs  (Ctrl-C stops everything)\n", file=sys.stderr, flush=True)
            return
        time.sleep(0.1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
