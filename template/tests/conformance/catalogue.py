"""The catalogue: what is checked, and which statements of the guide each check proves."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .kit import Kit

Run = Callable[["Kit"], "str | Awaitable[str]"]

FACTORS = {
    "I": "Codebase",
    "II": "Dependencies",
    "III": "Config",
    "IV": "Backing services",
    "V": "Build, release, run",
    "VI": "Processes",
    "VII": "Port binding",
    "VIII": "Concurrency",
    "IX": "Disposability",
    "X": "Dev/prod parity",
    "XI": "Logs",
    "XII": "Admin processes",
}


class Broken(Exception):
    """What a check saw where something else must hold."""


def require(held: object, saw: object) -> None:
    """Raise Broken with what was seen unless this holds."""
    if not held:
        raise Broken(str(saw))


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and how to see whether it does."""

    id: str  # of a factor: IX-2
    must: str  # what must hold, a sentence
    statements: tuple[int, ...]  # of the guide, by number: see guide.py
    needs: tuple[str, ...]  # process types, variables and paths without which it does not apply
    fast: bool
    file: str
    run: Run = field(repr=False)
    """Returns the evidence, raises Broken or anything else."""
    leaves: bool = False  # its deploy to others that need a whole one, so it comes early

    @property
    def kind(self) -> str:
        """What it looks at: files, what the commands in bin/ do, processes or the image."""
        kinds = {"_live.py": "processes", "_verbs.py": "verbs", "image.py": "image"}
        return next((kind for end, kind in kinds.items() if self.file.endswith(end)), "files")

    @property
    def factor(self) -> str:
        return self.id.partition("-")[0]


CHECKS: dict[str, Check] = {}


def check(
    id: str,
    *statements: int,
    needs: tuple[str, ...] = (),
    fast: bool = False,
    leaves: bool = False,
) -> Callable[[Run], Run]:
    """Put a function into the catalogue; its docstring says what must hold."""

    def register(function: Run) -> Run:
        if id in CHECKS:
            raise ValueError(f"two checks are called {id}")
        file = Path(function.__code__.co_filename).name
        must = inspect.cleandoc(function.__doc__ or "")
        CHECKS[id] = Check(id, must, statements, needs, fast, file, function, leaves)
        return function

    return register


def load() -> list[Check]:
    """Every check of the factor_NN_*.py beside this file, of files, of processes (_live) and of
    the commands in bin/ (_verbs), and of image.py."""
    for path in sorted(Path(__file__).parent.glob("factor_*.py")):
        import_module(f".{path.stem}", __package__)
    import_module(".image", __package__)
    order = list(FACTORS)
    return sorted(CHECKS.values(), key=lambda check: order.index(check.factor))
