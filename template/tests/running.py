"""Processes as the platform sees them: a command, an environment, signals, lines of JSON."""

import asyncio
import inspect
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from dev.server import free_port
from dev.services import processes

__all__ = ["COMMANDS", "SECONDS", "Event", "Running", "Start", "free_port", "until"]

SECONDS = 30  # long enough for a busy machine; a test that passes waits far less

Event = dict[str, Any]


COMMANDS = {name: [sys.executable, *shlex.split(line)[1:]] for name, line in processes().items()}
"""The Procfile: process type to command, with this interpreter for `python`."""


class Running:
    """A started process and what it has logged so far."""

    def __init__(self, process: str, environment: dict[str, str]) -> None:
        self.events: list[Event] = []
        self.other: list[str] = []  # lines that are no JSON: there should be none
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            COMMANDS.get(process) or [sys.executable, "-m", process],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._changed:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self.other.append(line)
                self._changed.notify_all()

    def event(self, name: str, **fields: object) -> Event:
        """Wait for an event of this name with these fields."""

        def found() -> Event | None:
            wanted = {"event": name, **fields}.items()
            return next((event for event in self.events if wanted <= event.items()), None)

        with self._changed:
            event = self._changed.wait_for(found, SECONDS)
        assert event, f"no {name} {fields} among {self.events} {self.other}"
        return event

    @property
    def code(self) -> int | None:
        """How it ended, if it has."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self, seconds: float = SECONDS) -> int:
        """Wait for the end and the last line."""
        code = self._process.wait(seconds)
        self._reader.join(SECONDS)
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.exit_code()

    def kill(self) -> None:
        self._process.kill()
        self.exit_code()
        assert self._process.stdout
        self._process.stdout.close()


Start = Callable[[str, dict[str, str]], Running]


async def until(done: Callable[[], object]) -> None:
    """Wait until this, or what it awaits, is true."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = done()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)
