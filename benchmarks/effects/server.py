"""A backing service that can be crashed: each line of input kills it and starts it again."""

import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any


def main(name: str, folder: Path) -> None:
    module: Any = import_module(f"dev.{name}")
    free_port = module.free_port
    ports: list[int] = []

    def first() -> int:
        ports.append(free_port())
        return ports[-1]

    module.free_port = first
    while True:
        with module.run(folder) as variables:
            print(json.dumps(variables), flush=True)
            if not sys.stdin.readline():
                return
            for process in family(os.getpid()):
                with suppress(ProcessLookupError):  # it went with its parent
                    os.kill(process, signal.SIGKILL)
        # Its clients have the URL from their environment: it comes back where it was.
        module.free_port = iter(ports).__next__


def family(root: int) -> list[int]:
    """The descendants of a process, parents first."""
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    except OSError:
        return []  # it has ended
    return [pid for child in map(int, children) for pid in (child, *family(child))]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
