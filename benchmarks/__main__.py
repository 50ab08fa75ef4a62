"""Prints the figures as a Markdown table: all of them, or those that are named."""

import sys

from . import making, running

BENCHMARKS = {
    "copy": making.copy,
    "render": making.render,
    "setup": making.setup,
    "start": running.start,
    "request": running.request,
    "drain": running.drain,
}

chosen = sys.argv[1:] or list(BENCHMARKS)
if unknown := [name for name in chosen if name not in BENCHMARKS]:
    sys.exit(f"There is no benchmark {', '.join(unknown)}: name some of {', '.join(BENCHMARKS)}.")
print("| | Target | Figure |\n|---|---|---|")
for name in chosen:
    for row in BENCHMARKS[name]():
        print(f"| {' | '.join(row)} |", flush=True)
