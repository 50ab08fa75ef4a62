"""Prove the twelve factors on the running service: `bin/conformance [--fast] [--only FACTOR]`."""

import argparse
import asyncio
import compileall
import inspect
import sys
import time
import traceback
from datetime import UTC, datetime

from . import bends, catalogue, report
from .catalogue import FACTORS, Broken, Check
from .facts import Facts
from .kit import Kit, git
from .platform import package
from .verdicts import BROKEN, HELD, NO_NEED, Result, ok
from dev.services import ROOT, given, processes, started

AT_ONCE = 4  # checks mostly wait; more of them would wait for a core
CHECK_SECONDS = 180
REPORTS = ROOT / "conformance"


def main(arguments: list[str]) -> int:
    checks = catalogue.load()
    parser = argparse.ArgumentParser("bin/conformance", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the quick ones of the checks")
    parser.add_argument(
        "--only", metavar="CHECK", nargs="+", default=[], help="of a factor, as IX, or IX-2 alone"
    )
    parser.add_argument("--image", action="store_true", help="also build the image, and look at it")
    parser.add_argument("--no-bends", action="store_true", help="as if no record bent a factor")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.only) - {*FACTORS, *catalogue.CHECKS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}: name a factor, IX, or a check")
    wanted = [one for one in checks if not chosen.only or {one.id, one.factor} & {*chosen.only}]
    wanted = [one for one in wanted if one.fast or not chosen.fast]
    wanted = [one for one in wanted if one.kind != "image" or chosen.image or one.id in chosen.only]
    try:
        bent = [] if chosen.no_bends else bends.read(ROOT, catalogue.CHECKS)
    except bends.Refused as refused:
        parser.error(str(refused))
    began = time.monotonic()
    compileall.compile_dir(Kit(ROOT).sources(ROOT), quiet=2)  # they are started often
    with started(ROOT / ".dev", given()) as urls:
        results = asyncio.run(run_all(wanted, Kit(ROOT, given() | urls)))
    now = datetime.now(UTC).date()
    results = bends.judge(results, bent, now)
    commit = git(ROOT, "rev-parse", "--short=7", "HEAD")
    commit = commit + "-dirty" * bool(git(ROOT, "status", "--porcelain")) if commit else "none"
    facts = Facts(
        service=package(processes()),
        commit=commit,
        release="of the test",
        date=now,
        lines=(f"Python {sys.version.split()[0]}", ", ".join(urls) or "nothing started"),
        seconds=time.monotonic() - began,
        mode="fast" if chosen.fast else f"only {' '.join(chosen.only)}" if chosen.only else "all",
        checks=tuple(checks),
        bends=tuple(bent),
    )
    report.write(REPORTS, results, facts)
    print(report.terminal(results, facts, colour=sys.stdout.isatty()))
    print(f"\n{REPORTS}/conformance.html")
    looked_at = {one.factor for one in wanted} if chosen.only or chosen.fast else set(FACTORS)
    return 0 if ok(results, looked_at) else 1


async def run_all(checks: list[Check], kit: Kit) -> list[Result]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(check: Check) -> Result:
        async with gate:
            began = time.monotonic()
            verdict, evidence = await run(check, kit)
            return Result(check, verdict, evidence, time.monotonic() - began)

    in_turn = sorted(checks, key=lambda check: (not check.leaves, check.fast))  # slow ones early
    async with kit.stack:
        results = await asyncio.gather(*map(one, in_turn))
    return sorted(results, key=lambda result: checks.index(result.check))


async def run(check: Check, kit: Kit) -> tuple[str, str]:
    """The verdict of a check and its evidence."""
    if lacking := [name for name in check.needs if not kit.has(name)]:
        without = ", ".join("backing service" if name == "://" else name for name in lacking)
        return NO_NEED, f"the service has no {without}"
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            if inspect.iscoroutinefunction(check.run):
                return HELD, await check.run(kit)
            return HELD, str(await asyncio.to_thread(check.run, kit))
    except Broken as broken:
        return BROKEN, str(broken)
    except Exception as error:  # what a check did not expect is no proof either
        where = traceback.extract_tb(error.__traceback__)[-1]
        return BROKEN, f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
