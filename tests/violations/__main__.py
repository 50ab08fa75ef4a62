"""Lets the kit find every violation, or those that are named: `bin/violations [NAME...]`."""

import argparse
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from typing import Any

from render import ROOT

from . import ALL, FACTORS, judge, report
from .judge import Service

AT_ONCE = 2


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("bin/violations", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help="of a violation, or a factor: IX")
    row = "run every check of the factor, not only the one that must break"
    parser.add_argument("--row", action="store_true", help=row)
    given = parser.parse_args(arguments)
    chosen = given.names
    if unknown := set(chosen) - {*ALL, *FACTORS}:
        parser.error(f"there is no violation and no factor {', '.join(sorted(unknown))}")
    wanted = [one for one in ALL.values() if not chosen or {one.name, one.factor} & {*chosen}]
    with ExitStack() as stack:
        services: dict[str, Service] = {}
        for one in wanted:
            if repr(one.answers) not in services:
                place = judge.prepare(one.answers)
                services[repr(one.answers)] = stack.enter_context(judge.serving(place))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        good = {} if chosen else found_good(services)
        stack.callback(pool.shutdown, cancel_futures=True)
        working = [
            pool.submit(judge.judge, one, services[repr(one.answers)], given.row) for one in wanted
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
    text = report.markdown(verdicts, good, voids)
    say(report.totals(verdicts))
    if not chosen:
        (ROOT / "docs" / "violations.md").write_text(text)
    return 0 if all(one.killed for one in verdicts) and not report.wrong(good, voids) else 1


def found_good(services: Mapping[str, Service]) -> dict[str, Any]:
    """What the whole kit says of the services as they are."""
    found = {}
    for answers, service in services.items():
        with judge.copied(service.path) as copy:
            found[answers] = judge.conformance(copy, service.urls, [])
        broken = [id for id, one in found[answers].items() if one["verdict"] == "broken"]
        say(f"good service {answers}: {', '.join(broken) or 'nothing'} broken")
    return found


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing that was started stays
    sys.exit(main(sys.argv[1:]))
