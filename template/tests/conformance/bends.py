"""Factors bent on purpose: a decision record whose front matter says which, why and until when.

    ---
    bend:
      factor: IX
      scenario: gpu-batch
      waives: [IX-1]
      processes: [worker]
      instead: [IX-4]
      because: Loading the model takes minutes.
      owner: "@batch"
      decided: 2026-11-23
      expires: 2027-05-23
    ---

Below it stand at least sixty words: the situation, the choice, what it costs.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from pathlib import Path

import yaml

from .catalogue import FACTORS
from .verdicts import BENT, BROKEN, EXPIRED, HELD, NO_NEED, STALE, UNHELD, Result

SUPPLE = [factor for factor in FACTORS if factor not in ("II", "III", "XI")]
SCENARIOS = {
    "websocket-rooms": ["VI"],
    "serverless": ["VII", "VIII"],
    "monorepo": ["I"],
    "edge-static": [],  # without processes there is nothing to prove
    "gpu-batch": ["IX"],
    "other": SUPPLE,
}


class Refused(Exception):
    """A record that waives nothing, and what to do about it."""


@dataclass(frozen=True)
class Bend:
    """Checks that may fail for a while, and what holds instead."""

    factor: str
    scenario: str
    waives: tuple[str, ...]
    processes: tuple[str, ...]
    instead: tuple[str, ...]
    because: str
    owner: str
    decided: date
    expires: date
    file: str


def read(root: Path, known: Collection[str]) -> list[Bend]:
    """The bends among the decision records; raises Refused for the first bad one."""
    found: list[Bend] = []
    for path in sorted((root / "docs/decisions").glob("*.md")):
        file, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        record = re.match(r"---\n(.*?)^---$(.*)", text, re.DOTALL | re.MULTILINE)
        try:
            front = yaml.safe_load(record[1]) if record else None
        except (yaml.YAMLError, ValueError) as error:
            why = " ".join(str(error).split())
            raise Refused(f'{file}: mend its YAML, and quote an owner as "@name": {why}') from None
        if record and isinstance(front, dict) and "bend" in front:
            bend = _bend(front["bend"], file)
            for fault in _faults(bend, known, found, len(record[2].split())):
                raise Refused(f"{file}: {fault}")
            found.append(bend)
    return found


def _bend(given: object, file: str) -> Bend:
    said = dict(given) if isinstance(given, dict) else {}
    forms = {field.name: field.type for field in fields(Bend) if field.name != "file"}
    for name in forms | said:
        form, value = forms.get(name), said.get(name)
        items = value if isinstance(value, list) and form not in (str, date) else [value]
        kind = date if form is date else str
        good = items and all(type(one) is kind and str(one).strip(" @") for one in items)
        if not form or not good:
            raise Refused(f"{file}: {name} is missing, empty or malformed; see {', '.join(forms)}.")
        said[name] = value if form in (str, date) else tuple(items)
    return Bend(**said, file=file)


def _faults(bend: Bend, known: Collection[str], others: list[Bend], words: int) -> Iterator[str]:
    may = SCENARIOS.get(bend.scenario, [])
    days = (bend.expires - bend.decided).days
    if bend.factor not in SUPPLE:
        yield f"{bend.factor} does not bend; mend the service, or bend one of {', '.join(SUPPLE)}."
    if bend.factor not in may:
        bends = " and ".join(may) or "nothing"
        yield f"{bend.scenario} bends {bends}; write one of {', '.join(SCENARIOS)} that fits."
    for check in (*bend.waives, *bend.instead):
        if check not in known:
            yield f"there is no check {check}; write one that the report lists."
        if check in bend.waives and not check.startswith(f"{bend.factor}-"):
            yield f"{check} is not of {bend.factor}; write a record for its own factor."
        if twice := [one.file for one in others if check in one.waives and check in bend.waives]:
            yield f"{twice[0]} waives {check} too; keep one of the two records."
    if not 0 < days <= 400:
        yield f"it lasts {days} days; let it expire 1 to 400 days after decided."
    if words < 60:
        yield f"its record has {words} words; tell situation, choice and cost in 60 or more."


def judge(results: Iterable[Result], bends: Iterable[Bend], today: date) -> list[Result]:
    """The results, with the verdicts of waived checks as their bends leave them."""
    results = list(results)
    held = {one.check.id for one in results if one.verdict == HELD}
    waived = {check: bend for bend in bends for check in bend.waives}
    return [_judged(one, waived.get(one.check.id), held, today) for one in results]


def _judged(result: Result, bend: Bend | None, held: set[str], today: date) -> Result:
    if not bend or result.verdict not in (BROKEN, HELD, NO_NEED):
        return result
    verdict, why = BENT, f"{bend.file}, until {bend.expires}, {bend.owner}"
    if result.verdict != BROKEN:
        verdict, why = STALE, f"needs no bend: take it out of {bend.file}"
    elif lost := [one for one in bend.instead if one not in held]:
        verdict, why = UNHELD, f"{', '.join(lost)} must hold instead: {bend.file}"
    elif not bend.decided - timedelta(1) <= today <= bend.expires:  # a clock may be a zone behind
        verdict, why = EXPIRED, f"{bend.file}: {bend.decided} to {bend.expires}"
    return replace(result, verdict=verdict, evidence=f"{why}; it saw: {result.evidence}")


def warnings(bends: Iterable[Bend], today: date) -> list[Bend]:
    """Those that expire within 30 days."""
    return [bend for bend in bends if today <= bend.expires <= today + timedelta(30)]
