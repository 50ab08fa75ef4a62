"""What the judge found, as tables."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from render import ROOT

from .judge import VOIDS, Checks, Verdict

DOCUMENT = ROOT / "docs" / "violations.md"
QUICKLY = " By `--quick`: of most rows, the check that had to break alone."
FOUND = """\
| Factor | Violation | Stands for | Smoke test | Broken checks | Seconds |
|---|---|---|---|---|--:|
"""


@dataclass(frozen=True)
class Run:
    """One run of the whole kit on a good service."""

    flavor: str
    checks: Checks
    seconds: float
    load: float

    @property
    def broken(self) -> list[str]:
        return [id for id, check in self.checks.items() if check["verdict"] == "broken"]


def write(title: str, text: str) -> None:
    """Put a section into the document, in place of the one of an earlier run."""
    head, *sections = re.split(r"^(?=## )", DOCUMENT.read_text(), flags=re.M)
    kept = {section.partition("\n")[0]: section.rstrip() for section in sections}
    kept[f"## {title}"] = f"## {title}\n\n{text.rstrip()}"
    DOCUMENT.write_text("\n\n".join([head.rstrip(), *kept.values()]) + "\n")


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


def run_line(run: Run) -> str:
    """One line about one run on a good service, for a terminal."""
    broken = [f"{id}: {run.checks[id]['evidence'][:200]}" for id in run.broken]
    return (
        f"{run.flavor:8} {run.seconds:5.0f} s, load {run.load:4.1f}  {' | '.join(broken) or 'held'}"
    )


def totals(verdicts: Sequence[Verdict]) -> str:
    """How many violations the kit has killed."""
    counted = [one for one in verdicts if not one.smoke]
    killed = [one for one in counted if one.killed]
    left = [one.violation.name for one in counted if not one.killed]
    said = f"{len(killed)} of {len(counted)} violations killed"
    said += f"; alive: {', '.join(left)}" if left else ""
    unfit = [one.violation.name for one in verdicts if one.smoke]
    return said + (f"; not counted, the laptop sees them: {', '.join(unfit)}" if unfit else "")


def row(verdict: Verdict) -> str:
    """A violation and what became of it."""
    one = verdict.violation
    seen = ", ".join(verdict.broken) if verdict.killed else "**none**"
    passes = "fails" if verdict.smoke else "passes"
    cells = (one.factor, one.name, one.stands_for, passes, seen, f"{verdict.seconds:.0f}")
    return f"| {' | '.join(cells)} |\n"


def found(verdicts: Sequence[Verdict], quick: bool) -> str:
    """Every violation and what became of it."""
    how = QUICKLY if quick else ""
    return f"{totals(verdicts)}.{how}\n\n{FOUND}{''.join(map(row, verdicts))}"


def added(verdicts: Sequence[Verdict], order: Sequence[str], quick: bool) -> str:
    """The same section with these rows put in, each where it stands in this order of names."""
    text = DOCUMENT.read_text()
    rows = {one.split(" | ")[1]: one for one in re.findall(r"(?m)^\| [IVX]+ \| .*\n", text)}
    rows |= {one.violation.name: row(one) for one in verdicts}
    rows = {name: rows[name] for name in order if name in rows}
    left = [name for name, one in rows.items() if "**none**" in one]
    alive = f"; alive: {', '.join(left)}" if left else ""
    how = QUICKLY if quick or QUICKLY in text else ""
    said = f"{len(rows) - len(left)} of {len(rows)} violations killed{alive}.{how}"
    return f"{said}\n\n{FOUND}{''.join(rows.values())}"


def nothing(
    verdicts: Sequence[Verdict],
    good: Mapping[str, Checks],
    voids: Mapping[str, Sequence[str]],
    quick: bool,
) -> str:
    """What the kit says of good services and of void ones, and what each check is needed for."""
    alone = Counter(one.broken[0] for one in verdicts if one.killed and len(one.broken) == 1)
    also = Counter(id for one in verdicts if one.killed for id in one.broken)
    checks = sorted({id for checks in good.values() for id in checks})
    never = [f"{id} (one of several killers of {also[id]})" for id in checks if id not in alone]
    parts = [
        f"Broken on the services as they are: {', '.join(wrong(good, {})) or 'nothing'}.",
        "Checks of processes that hold on a service that\n\n"
        + "\n".join(f"- {name}: {', '.join(voids[name]) or 'none'}" for name in VOIDS if voids),
    ]
    if quick:
        return "\n\n".join(parts)  # whole rows alone tell who else would have seen it
    parts += [
        "In its factor's row a check was the only one to break for so many violations:\n\n"
        + (", ".join(f"{id} {count}" for id, count in sorted(alone.items())) or "none"),
        f"For none: {', '.join(never) or 'none'}.",
    ]
    return "\n\n".join(parts)


def alarms(runs: Sequence[Run]) -> str:
    """What the kit said of good services on a busy machine."""
    wrong = [f"{id} ({run.flavor})" for run in runs for id in run.broken]
    flavors = Counter(run.flavor for run in runs)
    said = ", ".join(f"{count} of {flavor}" for flavor, count in flavors.items())
    seconds, loads = [run.seconds for run in runs], [run.load for run in runs]
    return (
        f"{len(runs)} runs ({said}) with a busy loop on each core: {len(wrong)} checks broken"
        f"{': ' + ', '.join(wrong) if wrong else ''}. A run took {min(seconds):.0f} to"
        f" {max(seconds):.0f} s, at a load of {min(loads):.0f} to {max(loads):.0f}."
    )


def wrong(good: Mapping[str, Checks], voids: Mapping[str, Sequence[str]]) -> list[str]:
    """Checks that break on a service as it is, or hold on one that does nothing."""
    broken = [
        f"{id} ({answers})"
        for answers, checks in good.items()
        for id, one in checks.items()
        if one["verdict"] == "broken"
    ]
    silent = ("exits at once", "hangs")
    return broken + [f"{id} ({name})" for name in silent for id in voids.get(name, [])]
