"""Run the service on this machine: `bin/dev`, or `bin/dev COMMAND` in the same environment."""

import contextlib
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
        manager = Manager()
        for name, line in processes.items():
            if name not in ONE_OFF:
                manager.add_process(name, f"exec {line}", env=environment, cwd=str(ROOT))
        threading.Thread(target=_announce, args=(environment,), daemon=True).start()
        manager.loop()
        return manager.returncode or 0


def _announce(environment: dict[str, str]) -> None:
    """Print the URL as soon as the service is ready there."""
    url = f"http://127.0.0.1:{environment['PORT']}" if "PORT" in environment else None
    while url:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz"):
            print(f"\nReady: {url}/docs  (Ctrl-C stops everything)\n", file=sys.stderr, flush=True)
            return
        time.sleep(0.1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
