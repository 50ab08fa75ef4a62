"""Lets the kit find every violation, or those that are named: `bin/violations [NAME...]`."""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from typing import Any

from render import locked

from . import ALL, FACTORS, FLAVORS, IMAGE, judge, report
from .judge import Checks, Service

AT_ONCE = 2


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("bin/violations", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help="of a violation, or a factor: IX")
    quick = "first the check that must break, and the others of its factor only if it does not"
    parser.add_argument("--quick", action="store_true", help=quick)
    add = "put the rows of those that are named into the table of the last whole run"
    parser.add_argument("--add", action="store_true", help=add)
    engine = "also those of the image, which take a container engine"
    parser.add_argument("--image", action="store_true", help=engine)
    alarms = "instead run the whole kit so often on services as they are, on a busy machine"
    parser.add_argument("--alarms", metavar="RUNS", type=int, default=0, help=alarms)
    given = parser.parse_args(arguments)
    chosen = given.names
    if unknown := set(chosen) - {*ALL, *FACTORS}:
        parser.error(f"there is no violation and no factor {', '.join(sorted(unknown))}")
    if given.add and not chosen:
        parser.error("--add is for violations that are named: a whole run writes every row")
    if given.alarms:
        return alarmed(given.alarms)
    wanted = [one for one in ALL.values() if not chosen or {one.name, one.factor} & {*chosen}]
    wanted = [one for one in wanted if one.name not in IMAGE or given.image or one.name in chosen]
    with locked(judge.CACHE), ExitStack() as stack:
        services = {
            repr(answers): stack.enter_context(judge.serving(judge.prepare(answers)))
            for answers in {repr(one.answers): one.answers for one in wanted}.values()
        }
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        good = {} if chosen else found_good(services, given.image)
        stack.callback(pool.shutdown, cancel_futures=True)
        working = [
            pool.submit(judge.judge, one, services[repr(one.answers)], given.quick)
            for one in wanted
        ]
        verdicts = []
        for done in as_completed(working):
            verdicts.append(done.result())
            say(report.line(verdicts[-1]))
        voids = (
            {} if chosen else {name: judge.void(name, services[repr({})]) for name in judge.VOIDS}
        )
    order = list(ALL)
    verdicts.sort(key=lambda one: order.index(one.violation.name))
    say(report.totals(verdicts))
    if given.add:
        report.write("Found", report.added(verdicts, order, given.quick))
    elif not chosen:
        report.write("Found", report.found(verdicts, given.quick))
        text = report.nothing(verdicts, good, voids, given.quick)
        report.write("Not found where there is nothing", text)
    return 0 if all(one.killed for one in verdicts) and not report.wrong(good, voids) else 1


def found_good(services: Mapping[str, Service], image: bool) -> dict[str, Any]:
    """What the whole kit says of the services as they are."""
    found = {}
    for answers, service in services.items():
        found[answers] = look(service, image)
        broken = [id for id, one in found[answers].items() if one["verdict"] == "broken"]
        say(f"good service {answers}: {', '.join(broken) or 'nothing'} broken")
    return found


def look(service: Service, image: bool = False) -> Checks:
    with judge.copied(service.path) as copy:
        return judge.conformance(copy, service.urls, [], image=image)


def alarmed(runs: int) -> int:
    """Run the whole kit on good services, one after the other, with a busy loop on each core."""
    flavors: dict[str, dict[str, object]] = {"both": {}}
    flavors |= {name: answers for name, (answers, _) in FLAVORS.items()}
    with locked(judge.CACHE), ExitStack() as stack:
        services = {
            name: stack.enter_context(judge.serving(judge.prepare(answers)))
            for name, answers in flavors.items()
        }
        stack.enter_context(busy())
        rows: list[report.Run] = []
        for name in itertools.islice(itertools.cycle(services), runs):
            began = time.monotonic()
            checks = look(services[name])
            rows.append(report.Run(name, checks, time.monotonic() - began, os.getloadavg()[0]))
            say(report.run_line(rows[-1]))
    report.write("False alarms", report.alarms(rows))
    return 1 if any(row.broken for row in rows) else 0


@contextmanager
def busy() -> Iterator[None]:
    """Keep every core at work until the block ends."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing that was started stays
    sys.exit(main(sys.argv[1:]))
