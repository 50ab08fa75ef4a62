"""What it costs to make a service: the copy, every set of answers, the setup."""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .service import ENVIRONMENT, Row, children, folder, generate, run, template

COPIES = 7
TICK = os.sysconf("SC_CLK_TCK")


def copy() -> Iterator[Row]:
    with folder() as place:
        template(place)
        figures = []
        for number in range(COPIES):
            before = children()
            generate(place, name=f"copy{number}")
            figures.append(children() - before)
    median = statistics.median(figures)
    yield "`copier copy --defaults`", "1.5 CPU-s", f"{median:.2f} CPU-s"


def render() -> Iterator[Row]:
    said = run(sys.executable, "-m", "pytest", "--numprocesses=0", "tests/test_render_all.py")
    figure = re.search(r"(\d+) valid sets of answers: ([\d.]+) CPU-seconds each", said)
    if not figure:
        sys.exit(f"tests/test_render_all.py printed no figure:\n{said}")
    what = f"{figure[1]} valid sets of answers, rendered and checked"
    yield what, "0.25 CPU-s each", f"{figure[2]} CPU-s each"


def setup() -> Iterator[Row]:
    """Nothing is in a cache; the packages come over the network."""
    with folder() as place:
        env = ENVIRONMENT | {"HOME": str(place), "UV_CACHE_DIR": str(place / "cache")}
        service = generate(place)
        said = []
        with subprocess.Popen(
            ["bin/setup"],
            cwd=service,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            step, began, before = "", time.monotonic(), 0.0
            # The last line is the greeting: it ends the last step.
            for line in process.stdout or ():
                said.append(line)
                if line.startswith(("== ", "Ready.")):
                    now, used = time.monotonic(), tree(process.pid)
                    if step:
                        yield step, "", f"{now - began:.1f} s, {used - before:.1f} CPU-s"
                    step, began, before = f"`bin/setup`, {line[3:].strip()}", now, used
        if process.returncode:
            sys.exit(f"bin/setup failed, so there is nothing to measure:\n{''.join(said)}")


def tree(root: int) -> float:
    """CPU-seconds of a process that runs, of its descendants, and of those of them that ended."""
    fields = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
    family = {root}
    while more := {pid for pid, field in fields.items() if int(field[1]) in family} - family:
        family |= more
    return sum(int(ticks) for pid in family for ticks in fields[pid][11:15]) / TICK
