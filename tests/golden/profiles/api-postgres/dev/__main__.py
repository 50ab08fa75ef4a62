"""Run the service on this machine: `bin/dev`, or `bin/dev COMMAND` in the same environment."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from . import services
from .services import ROOT, example, given, started

ONE_OFF = {"release", "console", "deadletters"}
STOP_SECONDS = 5  # beyond what the processes grant themselves


def main(command: list[str]) -> int:
    environment = example() | given()
    # The Procfile says `python`: let that be this environment's.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    processes = services.processes()
    with started(ROOT / ".dev", given()) as urls:
        environment |= urls
        for variable, url in urls.items():
            print(f"{variable}={url}", file=sys.stderr, flush=True)
        if "release" in processes:
            released = subprocess.run(processes["release"], shell=True, env=environment, cwd=ROOT)
            if released.returncode:
                return released.returncode
        if command:
            one_off = processes[command[0]].split() if command[0] in processes else command[:1]
            return subprocess.run([*one_off, *command[1:]], env=environment).returncode
        serving = {name: line for name, line in processes.items() if name not in ONE_OFF}
        return asyncio.run(together(serving, environment))


async def together(processes: dict[str, str], environment: dict[str, str]) -> int:
    """Run these until one ends or somebody says stop; none is left behind."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    running: dict[str, asyncio.subprocess.Process] = {}
    tasks = []
    for name, line in processes.items():
        running[name] = await asyncio.create_subprocess_shell(
            f"exec {line}",
            cwd=ROOT,
            env=environment,
            limit=2**24,  # bytes of a line: a trace is one
            start_new_session=True,  # Ctrl-C is for this process, which passes it on
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
        )
        say("dev", f"{name} started, process {running[name].pid}")
        tasks.append(asyncio.create_task(relay(name, running[name])))
    if "web" in processes:
        url = f"http://127.0.0.1:{environment['PORT']}"
        threading.Thread(target=announce, args=(url,), daemon=True).start()
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
    for process in running.values():
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    _, late = await asyncio.wait(tasks, timeout=float(environment["GRACE_SECONDS"]) + STOP_SECONDS)
    if late:
        for process in running.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.wait(late)
    return 130 if stopping.is_set() else 1


async def relay(name: str, process: asyncio.subprocess.Process) -> None:
    """Print what a process prints, and how it ended."""
    assert process.stdout
    async for line in process.stdout:
        say(name, line.decode(errors="replace").rstrip())
    say("dev", f"{name} ended with {await process.wait()}")


def say(name: str, line: str) -> None:
    """One line after its process's name; at a terminal an event is put into words."""
    if sys.stdout.isatty():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            event = json.loads(line)
            words = [event.pop("ts")[11:19], event.pop("level").upper(), event.pop("event")]
            trace = event.pop("exception", "")
            for known in ("process", "release", "revision"):
                event.pop(known)
            words += [f"{field}={value}" for field, value in event.items()]
            line = "\n".join([" ".join(words), *trace.splitlines()])
    print(f"{name:6} | {line}", flush=True)


def announce(url: str) -> None:
    """Print the address as soon as the service is ready there."""
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz"):
            print(f"\nReady: {url}/docs  (Ctrl-C stops everything)\n", flush=True)
            return
        time.sleep(0.1)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
