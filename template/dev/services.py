"""Backing services for development and tests: attached when their URL is given, else started."""

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


def example() -> dict[str, str]:
    """The variables of .env.example with their values for development."""
    return _read(ROOT / ".env.example")


def given() -> dict[str, str]:
    """What this developer has set: .env, then the environment."""
    return _read(ROOT / ".env") | os.environ


@contextmanager
def started(folder: Path, given: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start every service whose variable is not given; yields the variables that point at them.

    folder: where their data lies, and stays.
    """
    with ExitStack() as stack:
        urls = {}
        for name in sorted(path.stem for path in HERE.glob("*.py")):
            if name.startswith("__") or name == "services":
                continue
            service = importlib.import_module(f".{name}", __package__)
            if not given.get(service.VARIABLE):
                urls[service.VARIABLE] = stack.enter_context(service.run(folder / name))
        yield urls


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
