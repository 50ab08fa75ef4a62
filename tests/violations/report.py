"""What the judge found, as a table."""

from collections import Counter
from collections.abc import Mapping, Sequence

from .judge import VOIDS, Checks, Verdict

HEAD = """\
# Violations

Each line is a service with one small violation: what a developer might write, and what the smoke
test of a laptop lets pass (one process of each type, the whole `PATH` and `HOME`, the story told
once). It counts as killed if the conformance kit breaks a check in the row of its factor.
`bin/violations` writes this page; `bin/violations NAME...` tries some of them.

| Factor | Violation | Stands for | Smoke test | Broken checks | Seconds |
|---|---|---|---|---|---|
"""


def line(verdict: Verdict) -> str:
    """One line about one violation, for a terminal."""
    one = verdict.violation
    if verdict.smoke:
        fate = f"FAILS THE SMOKE TEST: {verdict.smoke[-1500:]}"
    elif verdict.fault:
        fate = f"NOT JUDGED: {verdict.fault[-1500:]}"
    else:
        broken = [f"{id}: {verdict.checks[id]['evidence'][:90]}" for id in verdict.broken]
        fate = f"{'killed' if verdict.killed else 'SURVIVES'}  {' | '.join(broken)}"
    return f"{one.factor:4} {one.name:24} {verdict.seconds:5.1f} s  {fate}"


def totals(verdicts: Sequence[Verdict]) -> str:
    """How many violations the kit has killed."""
    counted = [one for one in verdicts if not one.smoke]
    killed = [one for one in counted if one.killed]
    left = [one.violation.name for one in counted if not one.killed]
    said = f"{len(killed)} of {len(counted)} violations killed"
    said += f"; alive: {', '.join(left)}" if left else ""
    unfit = [one.violation.name for one in verdicts if one.smoke]
    return said + (f"; not counted, the laptop sees them: {', '.join(unfit)}" if unfit else "")


def markdown(
    verdicts: Sequence[Verdict], good: Mapping[str, Checks], voids: Mapping[str, Sequence[str]]
) -> str:
    """The whole table, and what stands below it."""
    rows = []
    for verdict in verdicts:
        one = verdict.violation
        seen = ", ".join(verdict.broken) if verdict.killed else "**none**"
        passes = "fails" if verdict.smoke else "passes"
        cells = (one.factor, one.name, one.stands_for, passes, seen, f"{verdict.seconds:.0f}")
        rows.append(f"| {' | '.join(cells)} |\n")
    alone = Counter(one.broken[0] for one in verdicts if one.killed and len(one.broken) == 1)
    checks = sorted({id for found in good.values() for id in found})
    never = [id for id in checks if id not in alone]
    broken = wrong(good, {})
    parts = [
        f"{totals(verdicts)}.",
        f"Broken on the services as they are: {', '.join(broken) or 'nothing'}.",
        "## Checks that are the only killer of something",
        "\n".join(f"- {id}: {count}" for id, count in sorted(alone.items())) or "- none",
        f"Of nothing: {', '.join(never) or 'none'}.",
        "## Services that are none",
        "Checks of processes that pass on a service that\n\n"
        + "\n".join(f"- {name}: {', '.join(voids[name]) or 'none'}" for name in VOIDS if voids),
    ]
    return HEAD + "".join(rows) + "\n" + "\n\n".join(parts) + "\n"


def wrong(good: Mapping[str, Checks], voids: Mapping[str, Sequence[str]]) -> list[str]:
    """Checks that break on a service as it is, or hold on one that does nothing."""
    broken = [
        f"{id} ({answers})"
        for answers, found in good.items()
        for id, one in found.items()
        if one["verdict"] == "broken"
    ]
    silent = ("exits at once", "hangs")
    return broken + [f"{id} ({name})" for name in silent for id in voids.get(name, [])]
