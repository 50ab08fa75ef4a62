"""A console in the environment of the release (factor XII): same code, same config."""

import asyncio
import code
import sys
from typing import Any

from . import parts, resources
from .config import Settings


def main(settings: Settings) -> int:
    """Interactive at a terminal; otherwise runs what stands on standard input."""
    with asyncio.Runner() as runner:
        attached = resources.attach(settings)
        runner.run(attached.__aenter__())
        names: dict[str, Any] = {"settings": settings, "run": runner.run}
        names |= dict(zip(parts.RESOURCES, resources.load(parts.RESOURCES), strict=True))
        try:
            if sys.stdin.isatty():
                code.interact(
                    f"run(...) awaits. Here: {', '.join(names)}.", local=names, exitmsg=""
                )
            else:
                exec(compile(sys.stdin.read(), "<stdin>", "exec"), names)  # noqa: S102
        finally:
            runner.run(attached.__aexit__(None, None, None))
    return 0
