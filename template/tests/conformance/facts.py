"""What the report says, in whichever form: sentences and lists of plain text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from . import bends
from .bends import Bend
from .catalogue import Check
from .guide import OTHERWISE, STATEMENTS
from .verdicts import BENT, BROKEN, HELD, NO_NEED, NOT_RUN, VERDICTS, Result, rows, worst

HERE = "tests/conformance"


@dataclass(frozen=True)
class Facts:
    """What was looked at, and how."""

    service: str
    commit: str
    release: str
    date: date
    lines: tuple[str, ...]  # engines and versions
    seconds: float
    mode: str  # all, fast, only IX
    checks: tuple[Check, ...]  # the whole catalogue, whatever was chosen of it
    bends: tuple[Bend, ...] = ()


def clean(text: str) -> str:
    """Without what a terminal would obey or XML refuse."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def line(text: str) -> str:
    return clean(" ".join(text.split()))


def short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def title(facts: Facts) -> str:
    names = ("Twelve-factor conformance", facts.service, f"commit {facts.commit}")
    return line(" · ".join((*names, f"release {facts.release}", f"{facts.date}")))


def setting(results: Sequence[Result], facts: Facts) -> str:
    """How much was looked at, and with what."""
    chosen = f"{facts.mode}: {len(results)} of {len(facts.checks)} checks"
    return line(" · ".join((chosen, *facts.lines)))


def tally(results: Sequence[Result], facts: Facts) -> str:
    counts = Counter(row.verdict for row in rows(results))
    always = (HELD, BENT, BROKEN, NOT_RUN)
    shown = [*always, *(one for one in VERDICTS if one not in always and counts[one])]
    return " · ".join([*(f"{counts[one]} {one}" for one in shown), f"{facts.seconds:.0f} s"])


def seen(result: Result) -> str:
    check = result.check
    return f"{check.id} {result.verdict}: {line(result.evidence)} ({HERE}/{check.file})"


def missing(results: Sequence[Result], facts: Facts) -> list[str]:
    """The checks that were not run or do not apply, and why."""
    chosen = {one.check.id for one in results}
    others = [one.id for one in facts.checks if one.id not in chosen]
    known = [seen(one) for one in results if one.verdict in (NOT_RUN, NO_NEED)]
    return known + [f"not chosen: {', '.join(others)}"] * bool(others)


def declared(facts: Facts) -> list[str]:
    """The bends, a line each."""
    soon = bends.warnings(facts.bends, facts.date)
    return [
        line(
            f"{one.factor} {one.scenario} ({', '.join(one.processes)}): {', '.join(one.waives)}"
            f" waived, {', '.join(one.instead)} instead, until {one.expires}"
            f"{' (SOON)' if one in soon else ''}, {one.owner}: {one.because} ({one.file})"
        )
        for one in facts.bends
    ]


def proofs(results: Sequence[Result], facts: Facts) -> list[tuple[str, str, str, str, str]]:
    """For each statement of the guide: number, text, verdict, checks and files."""
    verdicts = {one.check.id: one.verdict for one in results}
    found = []
    for number, text in STATEMENTS.items():
        checks = [one for one in facts.checks if number in one.statements]
        verdict = worst(verdicts.get(one.id, NOT_RUN) for one in checks)
        if not checks:
            verdict = OTHERWISE.get(number, "not checked")
        files = " ".join(sorted({f"{HERE}/{one.file}" for one in checks}))
        found.append((str(number), text, verdict, " ".join(one.id for one in checks), files))
    return found
