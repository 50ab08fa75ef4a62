"""The report: what holds, what was seen and what it proves, for people and for machines."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from xml.etree import ElementTree

from .catalogue import FACTORS
from .facts import (
    HERE,
    Facts,
    clean,
    declared,
    line,
    missing,
    proofs,
    seen,
    setting,
    short,
    tally,
    title,
)
from .verdicts import BENT, FINE, HELD, NO_NEED, NOT_RUN, VERDICTS, Result, Row, rows

COLOURS = {HELD: 32, BENT: 33, NO_NEED: 2}  # of a terminal; all others are red


def terminal(results: Sequence[Result], facts: Facts, colour: bool = False) -> str:
    """The report as plain text; in colours only when told so."""
    said = [title(facts), setting(results, facts), ""]
    table = [
        (
            f"{row.factor:4} {FACTORS[row.factor]:19}",
            row.verdict.upper(),
            short(" ".join(one.check.id for one in row.results), 31),
            short(line(row.evidence), 80),
            f"{row.seconds:5.1f} s",
        )
        for row in rows(results)
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        if colour:
            padded[1] = f"\033[{COLOURS.get(cells[1].lower(), 31)}m{padded[1]}\033[0m"
        said.append("  " + "  ".join(padded))
    blocks = {
        "Not held": [seen(one) for one in results if one.verdict not in (HELD, NOT_RUN, NO_NEED)],
        "Bends": declared(facts),
        "Not run": missing(results, facts),
    }
    for name, lines in blocks.items():
        said += ["", name, *(f"  {one}" for one in lines)] if lines else []
    return "\n".join([*said, "", tally(results, facts)])


def write(folder: Path, results: Sequence[Result], facts: Facts) -> None:
    """The same as conformance.md, .json and .html, and as junit.xml."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "conformance.md": markdown(results, facts),
        "conformance.json": machine(results, facts),
        "conformance.html": page(results, facts),
        "junit.xml": junit(results, facts),
    }
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


def markdown(results: Sequence[Result], facts: Facts) -> str:
    factors = [
        (one.factor, FACTORS[one.factor], one.verdict, one.evidence, f"{one.seconds:.1f} s")
        for one in rows(results)
    ]
    checks = [
        (one.check.id, one.check.must, one.verdict, one.evidence, f"{HERE}/{one.check.file}")
        for one in results
    ]
    blocks = [
        f"# {mark(title(facts))}",
        mark(setting(results, facts)),
        tally(results, facts),
        table("Factor | Name | Verdict | Evidence | Time", factors),
        "## Bends",
        "\n".join(f"- {mark(one)}" for one in declared(facts) or ["none"]),
        "## Not run",
        "\n".join(f"- {mark(one)}" for one in missing(results, facts) or ["none"]),
        "## Checks",
        table("Check | What must hold | Verdict | Evidence | File", checks),
        "## What proves each statement of the guide",
        table("No. | Statement | Verdict | Checks | Files", proofs(results, facts)),
    ]
    return "\n\n".join(blocks) + "\n"


def table(head: str, body: Iterable[Iterable[str]]) -> str:
    lines = [head, "|".join("---" for _ in head.split("|"))]
    lines += [" | ".join(map(mark, cells)) for cells in body]
    return "\n".join(f"| {one} |" for one in lines)


def mark(text: str) -> str:
    """As Markdown that shows this text on one line and does nothing else."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", escape(line(text), quote=False))


def machine(results: Sequence[Result], facts: Facts) -> str:
    checks = [
        {name: getattr(one.check, name) for name in ("id", "factor", "must", "statements")}
        | {"verdict": one.verdict, "evidence": one.evidence, "seconds": round(one.seconds, 3)}
        | {"file": f"{HERE}/{one.check.file}", "kind": one.check.kind}
        for one in results
    ]
    names = ("service", "commit", "release", "mode", "lines", "seconds")
    about = {name: getattr(facts, name) for name in names}
    about |= {"date": facts.date.isoformat(), "bends": [one.file for one in facts.bends]}
    about |= {"factors": {row.factor: row.verdict for row in rows(results)}, "checks": checks}
    return json.dumps(about, indent=2) + "\n"


def junit(results: Sequence[Result], facts: Facts) -> str:
    """A test case for each check; one that was not run is an error."""
    tags = dict.fromkeys(VERDICTS, "failure") | dict.fromkeys(FINE, "system-out")
    tags |= {NO_NEED: "skipped", NOT_RUN: "error"}
    count = Counter(tags[one.verdict] for one in results)
    suite = ElementTree.Element("testsuite", name=title(facts), time=f"{facts.seconds:.3f}")
    suite.attrib |= {"tests": str(len(results)), "failures": str(count["failure"])}
    suite.attrib |= {"errors": str(count["error"]), "skipped": str(count["skipped"])}
    for one in results:
        name = f"{one.check.id} {line(one.check.must)}"
        about = {"classname": f"conformance.{one.check.factor}", "name": name}
        case = ElementTree.SubElement(suite, "testcase", about, time=f"{one.seconds:.3f}")
        element = ElementTree.SubElement(case, tags[one.verdict])
        element.text = f"{one.verdict}: {clean(one.evidence)}"
        if element.tag != "system-out":
            element.set("message", line(element.text))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def page(results: Sequence[Result], facts: Facts) -> str:
    """One page, for somebody who has a minute."""
    factors, proven = rows(results), proofs(results, facts)
    other = [
        f"{one.factor} {FACTORS[one.factor]} {one.verdict}"
        for one in factors
        if one.verdict != HELD
    ]
    held = f"{len(factors) - len(other)} of {len(factors)} factors held"
    texts = {
        "title": title(facts),
        "headline": "; ".join([held, *other[:3]]) + " …" * (len(other) > 3),
        "tally": tally(results, facts),
        "setting": setting(results, facts),
        "proven": str(sum(verdict == HELD for _, _, verdict, _, _ in proven)),
        "all": str(len(proven)),
    }
    lists = {"bends": declared(facts), "missing": missing(results, facts)}
    html = {name: escape(text) for name, text in texts.items()}
    html |= {name: elements("li", lines or ["none"]) for name, lines in lists.items()}
    html["rows"] = "\n".join(map(details, factors))
    html["proofs"] = "\n".join(f"<tr>{elements('td', cells)}</tr>" for cells in proven)
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(html)


def elements(name: str, texts: Iterable[str]) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for text in texts)


def badge(verdict: str) -> str:
    kind = {HELD: "held", BENT: "bent", NO_NEED: "none"}.get(verdict, "wrong")
    return f'<span class="verdict {kind}">{verdict}</span>'


def details(row: Row) -> str:
    """A factor, to be opened for its checks."""
    checks = "".join(
        f"<li><b>{escape(one.check.id)}</b> {badge(one.verdict)} {escape(line(one.check.must))}"
        f"<pre>{escape(clean(one.evidence))}</pre>"
        f"<small>{HERE}/{escape(one.check.file)}, {one.seconds:.1f} s</small></li>"
        for one in row.results
    )
    return (
        f"<details{'' if row.verdict in FINE else ' open'}><summary>"
        f"<span>{row.factor}</span><b>{FACTORS[row.factor]}</b>{badge(row.verdict)}"
        f'<span class="saw">{escape(short(line(row.evidence), 160))}</span>'
        f'<span class="saw time">{row.seconds:.1f} s</span></summary>'
        f'<ul class="checks">{checks}</ul></details>'
    )
