"""Backing services for development and tests: attached when their URL is given, else started."""

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parent
OTHERS = ("__init__", "__main__", "server", "services")


def example(root: Path | None = None) -> dict[str, str]:
    """The variables of .env.example with their values for development."""
    return _read((root or ROOT) / ".env.example")


def processes(root: Path | None = None) -> dict[str, str]:
    """The Procfile: process type to command."""
    lines = ((root or ROOT) / "Procfile").read_text().splitlines()
    pairs = [line.partition(":") for line in lines if ":" in line and not line.startswith("#")]
    return {name.strip(): command.strip() for name, _, command in pairs}


def given() -> dict[str, str]:
    """What this developer has set: .env, then the environment."""
    return _read(ROOT / ".env") | os.environ


@contextmanager
def started(folder: Path, given: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start every service whose variable is not given; yields the variables that point at them.

    folder: where their data lies, and stays.
    """
    with ExitStack() as stack:
        variables: dict[str, str] = {}
        for name, module in _modules().items():
            if not given.get(module.VARIABLE):
                variables |= stack.enter_context(module.run(folder / name))
        yield variables


@contextmanager
def isolated(
    folder: Path, given: Mapping[str, str], like: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """As started, with a place of one's own in each service: what tests may touch.

    like: variables that point at other such places, of which the new ones are copies where there
    is something to copy; else they are empty.
    """
    with started(folder, given) as variables, ExitStack() as stack:
        attached = {**example(), **given, **variables}
        for module in _modules().values():
            copied = getattr(module, "copied", None) if like else None
            place = copied(attached, like) if copied else module.fresh(attached)
            variables = variables | stack.enter_context(place)
        yield variables


def nowhere() -> dict[str, str]:
    """Variables that point at no service."""
    return {name: url for module in _modules().values() for name, url in module.NOWHERE.items()}


def _modules() -> dict[str, ModuleType]:
    """The modules beside this one that run a backing service."""
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in OTHERS)
    return {name: importlib.import_module(f".{name}", __package__) for name in names}


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
