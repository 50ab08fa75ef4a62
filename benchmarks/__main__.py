"""Prints the figures as a Markdown table: all of them, or those that are named."""

import signal
import sys

from . import durability, image, making, queue, rolling, running

BENCHMARKS = {
    "copy": making.copy,
    "render": making.render,
    "setup": making.setup,
    "start": running.start,
    "request": running.request,
    "drain": running.drain,
    "image": image.image,
}

# With arguments of their own.
PROGRAMS = {"durability": durability.main, "queue": queue.main, "roll": rolling.main}

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing that was started stays
if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
    sys.exit(PROGRAMS[sys.argv[1]](sys.argv[2:]))
chosen = sys.argv[1:] or [name for name in BENCHMARKS if name != "image"]  # it takes an engine
if unknown := [name for name in chosen if name not in BENCHMARKS]:
    sys.exit(f"There is no benchmark {', '.join(unknown)}: name some of {', '.join(BENCHMARKS)}.")
print("| | Target | Figure |\n|---|---|---|")
for name in chosen:
    for row in BENCHMARKS[name]():
        print(f"| {' | '.join(row)} |", flush=True)
