"""The conformance report: verdicts are the worst of their parts, and nothing seen gets out raw."""

import ast
import json
import re
import shutil
import subprocess
from datetime import date
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conformance import report
from conformance.bends import Bend
from conformance.catalogue import FACTORS, Check
from conformance.facts import Facts, clean, proofs
from conformance.guide import OTHERWISE, STATEMENTS
from conformance.verdicts import VERDICTS, Result, ok, rows, worst
from render import ROOT

TODAY = date(2026, 11, 23)
FAILURES = ("broken", "unheld", "expired", "stale", "not run")
HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "a | b `c` *d* _e_ [f](g) ~~h~~ \\ & \"i\" 'j' ]]> --> {{ k }} $service ${rows}",
    "two\r\nlines\tand\x1b[31m a colour \x00 \x0b \ud800 \ufffe \u202e 請求書 🧾",
    "x" * 3000,
]
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


def result(
    id: str, verdict: str = "held", evidence: str = "saw it", seconds: float = 1.0, **about: Any
) -> Result:
    file = f"factor_{id.partition('-')[0]}_live.py"
    known: dict[str, Any] = {
        "must": f"{id} must hold.",
        "statements": (),
        "needs": (),
        "fast": True,
        "file": file,
    }
    check = Check(id=id, run=lambda _: "", **(known | about))
    return Result(check, verdict, evidence, seconds)


def all_of(**verdicts: str) -> list[Result]:
    """A result for each factor: held, unless said otherwise."""
    return [result(f"{factor}-1", verdicts.get(factor, "held")) for factor in FACTORS]


def facts(results: list[Result], **about: Any) -> Facts:
    known: dict[str, Any] = {
        "service": "billing",
        "commit": "abc1234",
        "release": "billing-abc1234-9f3e21",
        "date": TODAY,
        "lines": ("PostgreSQL 18.0", "Python 3.11.7"),
        "seconds": 47.6,
        "mode": "all",
        "checks": tuple(one.check for one in results),
    }
    return Facts(**(known | about))


def parsed(junit: str) -> ElementTree.Element:
    return ElementTree.fromstring(junit)  # noqa: S314


BEND = Bend(
    *("VI", "websocket-rooms", ("VI-1",), ("rooms",), ("VI-B1",), "Rooms live in memory.", "@rt"),
    *(TODAY, date(2026, 12, 20), "docs/decisions/0007-rooms.md"),
)


@pytest.mark.parametrize("one", VERDICTS)
def test_a_verdict_is_the_worst_of_its_parts(one: str) -> None:
    assert VERDICTS[:5] == FAILURES
    for other in VERDICTS:
        expected = min(one, other, key=VERDICTS.index)
        both = [result("IX-1", one), result("IX-2", other)]
        (row,) = rows(both, ["IX"])
        assert row.verdict == worst([other, one]) == expected
        assert ok(both, ["IX"]) is (expected not in FAILURES)
        assert ok([*all_of(), *both]) is (expected not in FAILURES)


def test_what_was_not_looked_at_is_not_ok() -> None:
    assert ok(all_of())
    assert ok(all_of(VI="bent", VIII="does not apply"))
    assert not ok(all_of()[1:])
    assert not ok([])
    assert not ok([], ["IX"])
    assert [row.verdict for row in rows([])] == ["not run"] * 12
    assert ok([result("IX-1")], ["IX"])
    assert not ok([result("IX-1")])


def test_what_does_not_apply_speaks_only_where_it_is_alone() -> None:
    why = result("VIII-1", "does not apply", "the service has no worker", 9)
    (alone,) = rows([why], ["VIII"])
    (beside,) = rows([why, result("VIII-2")], ["VIII"])
    assert (alone.verdict, alone.evidence) == ("does not apply", "the service has no worker")
    assert (beside.verdict, beside.evidence) == ("held", "saw it")


def test_the_terminal_says_it_in_twelve_rows() -> None:
    seen = [
        *all_of(VI="bent", XI="broken", IX="not run", VIII="does not apply"),
        result("II-2", "held", "the longest look", 7.25),
        result("XI-2", "held", "of no weight here", 99),
        result("X-2", "stale", "needs none"),
    ]
    others = (*(one.check for one in seen), result("V-9").check)
    said = report.terminal(seen, facts(seen, checks=others, bends=(BEND,))).splitlines()
    assert said[0] == (
        "Twelve-factor conformance · billing · commit abc1234"
        " · release billing-abc1234-9f3e21 · 2026-11-23"
    )
    assert said[1] == "all: 15 of 16 checks · PostgreSQL 18.0 · Python 3.11.7"
    table = {line.split()[0]: line for line in said[3:15]}
    assert list(table) == list(FACTORS)
    assert re.fullmatch(
        r"  II   Dependencies +HELD +II-1 II-2 +the longest look +8\.2 s", table["II"]
    )
    assert re.search("XI +Logs +BROKEN +XI-1 XI-2 +saw it", table["XI"])
    assert {line.rindex(" s") for line in table.values()} == {len(table["I"]) - 2}
    text = "\n".join(said)
    assert "  XI-1 broken: saw it (tests/conformance/factor_XI_live.py)" in said
    assert "  VI-1 bent: saw it (tests/conformance/factor_VI_live.py)" in said
    assert "  IX-1 not run: saw it (tests/conformance/factor_IX_live.py)" in said
    assert "  VIII-1 does not apply: saw it (tests/conformance/factor_VIII_live.py)" in said
    assert "  not chosen: V-9" in said
    assert "VI-1 waived, VI-B1 instead, until 2026-12-20 (SOON), @rt: Rooms live in mem" in text
    assert text.index("Not held") < text.index("Bends") < text.index("Not run")
    assert said[-1] == "7 held · 1 bent · 1 broken · 1 not run · 1 stale · 1 does not apply · 48 s"


def test_a_report_of_what_holds_is_short() -> None:
    said = report.terminal(all_of(), facts(all_of()))
    assert len(said.splitlines()) == 17
    assert said.endswith("\n12 held · 0 bent · 0 broken · 0 not run · 48 s")


def test_a_bend_that_lasts_is_not_announced() -> None:
    later = facts(all_of(), bends=(BEND,), date=date(2026, 11, 1))
    assert "(SOON)" not in report.terminal(all_of(), later)


def test_colours_come_only_when_told_so() -> None:
    seen = all_of(I="bent", II="broken", III="not run", IV="does not apply")
    plain, coloured = (report.terminal(seen, facts(seen), colour) for colour in (False, True))
    assert "\033" not in plain
    assert re.findall(r"\033\[(\d+)m", coloured)[::2][:6] == ["33", "31", "31", "2", "32", "32"]
    assert re.sub(r"\033\[\d+m", "", coloured) == plain


@pytest.mark.parametrize("evidence", HOSTILE)
def test_nothing_that_was_seen_gets_out_raw(evidence: str, tmp_path: Path) -> None:
    seen = [*all_of(), result("XI-2", "broken", evidence, must=evidence)]
    bend = Bend(*("VI", "other", ("VI-1",), (evidence,), ("VI-2",), evidence, evidence),
                *(TODAY, TODAY, "docs/decisions/0002.md"))  # fmt: skip
    about = facts(seen, service=evidence, lines=(evidence,), bends=(bend,))
    said = report.terminal(seen, about)
    assert all(one.isprintable() for one in said.replace("\n", ""))
    assert len(said.splitlines()) == 17 + 6
    report.write(tmp_path, seen, about)
    html, markdown, junit = (
        (tmp_path / name).read_text()
        for name in ("conformance.html", "conformance.md", "junit.xml")
    )
    for text in (html, markdown):
        assert "<script" not in text
        assert "\x1b" not in text
    assert html.count("<li>") == 13 + 2
    assert html.count("<details") == 13
    assert escape(clean(evidence)) in html
    rendered = [line for line in markdown.splitlines() if line.startswith("| XI-2 ")]
    assert len(rendered) == 1
    assert len(re.findall(r"(?<!\\)\|", rendered[0])) == 6
    failure = parsed(junit).find(".//failure")
    assert failure is not None
    assert failure.text == f"broken: {clean(evidence)}"
    stored = json.loads((tmp_path / "conformance.json").read_text())
    assert stored["checks"][-1]["evidence"] == evidence


def test_lines_and_tabs_of_evidence_stay() -> None:
    assert clean("a\n\tb\x1b[0m\r") == "a\n\tb\ufffd[0m\ufffd"
    broken = [result("XI-1", "broken", "Traceback:\n\tline 1")]
    assert "<pre>Traceback:\n\tline 1</pre>" in report.page(broken, facts(broken))


def test_a_machine_reads_what_was_seen() -> None:
    seen = [result("IX-2", "bent", "201", 1.23456, statements=(58, 59)), result("I-1", file="a.py")]
    made = json.loads(report.machine(seen, facts(seen, mode="only IX", bends=(BEND,))))
    assert made["checks"][0] == {
        "id": "IX-2",
        "factor": "IX",
        "must": "IX-2 must hold.",
        "statements": [58, 59],
        "verdict": "bent",
        "evidence": "201",
        "seconds": 1.235,
        "file": "tests/conformance/factor_IX_live.py",
        "kind": "processes",
    }
    assert made["checks"][1]["kind"] == "files"
    assert (made["service"], made["date"], made["mode"]) == ("billing", "2026-11-23", "only IX")
    assert made["bends"] == ["docs/decisions/0007-rooms.md"]
    assert made["factors"]["IX"] == "bent"
    assert made["factors"]["X"] == "not run"


def test_junit_counts_what_failed_and_what_was_not_run() -> None:
    seen = [result(f"I-{number}", verdict) for number, verdict in enumerate(VERDICTS)]
    suite = parsed(report.junit(seen, facts(seen)))
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")}
    assert counts == {
        "tests": "8",
        "failures": "4",
        "errors": "1",
        "skipped": "1",
        "time": "47.600",
    }
    tags = [case[0].tag for case in suite]
    assert tags == [*["failure"] * 4, "error", "system-out", "system-out", "skipped"]
    assert suite[0].attrib == {
        "classname": "conformance.I",
        "name": "I-0 I-0 must hold.",
        "time": "1.000",
    }
    assert suite[0][0].get("message") == "broken: saw it"


def test_every_statement_of_the_guide_says_what_proves_it(tmp_path: Path) -> None:
    seen = [
        result("IX-2", "held", statements=(58, 59)),
        result("IX-5", "broken", statements=(59,)),
        result("II-1", "does not apply", statements=(21,)),
    ]
    checks = (*(one.check for one in seen), result("I-1", statements=(16, 58)).check)
    about = facts(seen, checks=checks)
    proven = {int(number): rest for number, *rest in proofs(seen, about)}
    ix = "tests/conformance/factor_IX_live.py"
    both = "tests/conformance/factor_IX_live.py tests/conformance/factor_I_live.py"
    assert list(proven) == list(STATEMENTS) == list(range(1, 127))
    assert proven[59] == [STATEMENTS[59], "broken", "IX-2 IX-5", ix]
    assert proven[58] == [STATEMENTS[58], "not run", "IX-2 I-1", both]
    assert proven[21][1:3] == ["does not apply", "II-1"]
    assert proven[16][1:3] == ["not run", "I-1"]
    assert proven[4][1:] == ["by a document", "", ""]
    assert proven[126][1:] == ["by the rules for bends", "", ""]
    assert proven[1][1:] == ["not checked", "", ""]
    report.write(tmp_path, seen, about)
    for name, row in (("conformance.md", r"^\| {} \| "), ("conformance.html", "^<tr><td>{}</td>")):
        text = (tmp_path / name).read_text()
        for number in STATEMENTS:
            assert len(re.findall(row.format(number), text, re.MULTILINE)) == 1
    assert "<p>0 of 126 statements of the guide are proven" in report.page(seen, about)
    assert "<p>2 of 126 statements of the guide are proven" in report.page(seen, facts(seen[:1]))


def test_statements_are_short_and_each_is_another() -> None:
    assert max(len(text) for text in STATEMENTS.values()) <= 90
    assert len(set(STATEMENTS.values())) == len(STATEMENTS)
    assert set(OTHERWISE) <= set(STATEMENTS)


def test_every_statement_has_a_check_or_is_said_to_be_held_otherwise() -> None:
    calls = [
        node
        for path in (ROOT / "template/tests/conformance").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check"
    ]
    checked = {number.value for call in calls for number in call.args[1:]}  # type: ignore[attr-defined]
    assert {*STATEMENTS} == checked | {*OTHERWISE}


@pytest.mark.parametrize(
    ("verdicts", "headline"),
    [
        ({}, "12 of 12 factors held"),
        ({"VI": "bent"}, "11 of 12 factors held; VI Processes bent"),
        (
            {"II": "broken", "XI": "not run"},
            "10 of 12 factors held; II Dependencies broken; XI Logs not run",
        ),
        (
            dict.fromkeys(("I", "II", "IV", "X"), "stale"),
            "8 of 12 factors held; I Codebase stale; II Dependencies stale; "
            "IV Backing services stale …",
        ),
    ],
)
def test_the_page_begins_with_what_counts(verdicts: dict[str, str], headline: str) -> None:
    seen = all_of(**verdicts)
    html = report.page(seen, facts(seen))
    assert f"<h1>{headline}</h1>" in html
    failing = [one for one in verdicts.values() if one in FAILURES]
    assert html.count("<details open>") == len(failing)


def test_the_page_fetches_nothing() -> None:
    html = report.page(all_of(), facts(all_of()))
    assert not re.search(r"(?i)\b(src|href)=|url\(|@import|//", html)
    assert "$" not in html


@pytest.fixture(scope="module")
def browser() -> str:
    found = [path for path in map(shutil.which, BROWSERS) if path]
    assert found, "No browser here looks at the page: apt-get install chromium-headless-shell"
    return found[0]


MEASURE = """<!doctype html><title>measured</title>
<iframe width="{width}" height="900" style="border: 0; color-scheme: {scheme}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const inner = frame.contentDocument, view = frame.contentWindow, root = inner.documentElement;
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (one) => {{
    const colour = view.getComputedStyle(one).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" && one.parentElement ? behind(one.parentElement) : colour;
  }};
  for (const one of inner.querySelectorAll("details")) one.open = true;
  const texts = [...inner.body.querySelectorAll("*")].filter((one) => one.innerText);
  const contrast = texts.map((one) => {{
    const ink = light(view.getComputedStyle(one).color), paper = light(behind(one));
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  }});
  const said = {{
    width: view.innerWidth, room: root.clientWidth, wide: root.scrollWidth, title: inner.title,
    contrast: Math.min(...contrast), paper: view.getComputedStyle(inner.body).backgroundColor,
    rows: [...inner.querySelectorAll(".rows summary")].map((one) => one.innerText),
  }};
  document.body.textContent = JSON.stringify(said);
}};
frame.srcdoc = {page};
</script>"""


@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_the_page(width: int, browser: str, tmp_path: Path) -> None:
    seen = all_of(VI="bent", IX="not run", VIII="does not apply")
    seen += [result("XI-2", "broken", evidence) for evidence in HOSTILE]
    html = report.page(seen, facts(seen, bends=(BEND,)))
    papers = set()
    for scheme in ("light", "dark"):
        inner = json.dumps(html).replace("</", "<\\/")
        page = tmp_path / f"{scheme}.html"
        page.write_text(MEASURE.format(width=width, scheme=scheme, page=inner))
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=5000"]
        done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True)
        found = re.search(r"<body>(\{.*\})</body>", done.stdout, re.DOTALL)
        assert found, done.stdout[-2000:] + done.stderr[-2000:]
        saw = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        assert saw["width"] == width
        assert saw["wide"] == saw["room"]  # nothing has to be scrolled sideways
        assert saw["title"].startswith("Twelve-factor conformance · billing")
        assert saw["contrast"] >= 4.5
        assert len(saw["rows"]) == 12
        assert re.match(r"VI\s+Processes\s+bent\s+saw it\s+1\.0 s", saw["rows"][5])
        papers.add(saw["paper"])
    assert len(papers) == 2
