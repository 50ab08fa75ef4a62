"""Bends: what a decision record may waive, what it may not, and what becomes of waived checks."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from conformance import bends
from conformance.bends import Bend, Refused
from conformance.catalogue import Check
from conformance.verdicts import Result, ok
from render import ROOT

DECIDED, EXPIRES = date(2026, 11, 23), date(2027, 5, 23)
GOOD: dict[str, Any] = {
    "factor": "VI",
    "scenario": "websocket-rooms",
    "waives": ["VI-1"],
    "processes": ["rooms"],
    "instead": ["VI-B1", "VI-B2"],
    "because": "Rooms live in memory.",
    "owner": "@rt",
    "decided": DECIDED,
    "expires": EXPIRES,
}
KNOWN = {
    *("I-3", "I-B1", "I-B2", "I-B3", "II-1", "III-1", "VI-1", "VI-3", "VI-B1", "VI-B2", "VI-B3"),
    *("VII-1", "VII-B1", "VIII-1", "VIII-3", "VIII-B1"),
    *("IX-1", "IX-B1", "IX-B2", "IX-B3", "XI-1"),
}
EXAMPLES = {
    "edge-static": "edge-static bends nothing; write one of",
    "gpu-batch": ["IX-1"],
    "monorepo": ["I-3"],
    "serverless": ["VII-1"],
    "serverless-scaling": ["VIII-1", "VIII-3"],
    "stateless": [],
    "websocket-rooms": ["VI-1", "VI-3"],
}


def record(root: Path, fields: object, words: int = 60, name: str = "0007-rooms") -> None:
    text = f"---\n{yaml.safe_dump({'bend': fields})}---\n# Title\n{'word ' * (words - 2)}\n"
    write(root, text, name)


def write(root: Path, text: str, name: str = "0007-rooms") -> None:
    (root / "docs/decisions").mkdir(parents=True, exist_ok=True)
    (root / f"docs/decisions/{name}.md").write_text(text)


def test_a_record_is_read(tmp_path: Path) -> None:
    record(tmp_path, GOOD)
    (bend,) = bends.read(tmp_path, KNOWN)
    lists = {"waives": ("VI-1",), "processes": ("rooms",), "instead": ("VI-B1", "VI-B2")}
    assert bend == Bend(**(GOOD | lists), file="docs/decisions/0007-rooms.md")


@pytest.mark.parametrize(
    "text",
    [
        "# 1. Plain",
        "---\nstatus: open\n---\n# 2.",
        "---\n\nRuled\n",
        "",
        "# 3.\n---\nbend: VI\n---\n",
    ],
)
def test_other_records_waive_nothing(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert bends.read(tmp_path, KNOWN) == []


def test_a_service_without_records_bends_nothing(tmp_path: Path) -> None:
    assert bends.read(tmp_path, KNOWN) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *(
            ({"factor": one, "scenario": "other"}, f"{one} does not bend; mend the service")
            for one in ("II", "III", "XI", "XIII")
        ),
        ({"waives": ["VI-9"]}, "there is no check VI-9; write one that the report lists."),
        ({"instead": ["VI-B9"]}, "there is no check VI-B9; write one that the report lists."),
        ({"waives": ["VII-1"]}, "VII-1 is not of VI; write a record for its own factor."),
        ({"instead": []}, "instead is missing, empty or malformed; see factor, scenario,"),
        ({"expires": DECIDED + timedelta(401)}, "it lasts 401 days; let it expire 1 to 400 days"),
        ({"expires": DECIDED}, "it lasts 0 days; let it expire 1 to 400 days"),
        ({"scenario": "gpu-batch"}, "gpu-batch bends IX; write one of websocket-rooms,"),
        ({"scenario": "serverless"}, "serverless bends VII and VIII; write one of"),
        ({"scenario": "edge-static"}, "edge-static bends nothing; write one of"),
        ({"scenario": "whim"}, "whim bends nothing; write one of"),
        *(({name: None}, f"{name} is missing, empty or malformed; see") for name in GOOD),
        *(({"owner": owner}, "owner is missing") for owner in ("", " ", "@", ["@rt"], 7)),
        *(({"expires": day}, "expires is missing") for day in ("soon", 2027, "2027-05-23")),
        *(({"waives": ids}, "waives is missing") for ids in ([], [1], [["VI-1"]], {"VI-1": 1})),
        ({"surprise": "yes"}, "surprise is missing, empty or malformed; see factor,"),
    ],
)
def test_a_bad_record_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    record(tmp_path, GOOD)
    assert len(bends.read(tmp_path, KNOWN)) == 1
    record(tmp_path, GOOD | change)
    with pytest.raises(Refused) as refused:
        bends.read(tmp_path, KNOWN)
    assert str(refused.value).startswith(f"docs/decisions/0007-rooms.md: {sentence}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", GOOD)
def test_no_field_may_be_left_out(tmp_path: Path, name: str) -> None:
    record(tmp_path, {key: value for key, value in GOOD.items() if key != name})
    with pytest.raises(Refused, match=f"{name} is missing"):
        bends.read(tmp_path, KNOWN)


@pytest.mark.parametrize("bend", [None, "VI", ["VI-1"]])
def test_a_head_without_fields_is_refused(tmp_path: Path, bend: object) -> None:
    record(tmp_path, bend)
    with pytest.raises(Refused, match="factor is missing"):
        bends.read(tmp_path, KNOWN)


@pytest.mark.parametrize("line", ["owner: @rt", "decided: 2026-13-45", "factor: [VI"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, f"---\nbend:\n  {line}\n---\n{'word ' * 60}\n")
    with pytest.raises(
        Refused, match=r"^docs/decisions/0007-rooms.md: mend its YAML, [^\n]*$"
    ) as refused:
        bends.read(tmp_path, KNOWN)
    assert 'quote an owner as "@name"' in str(refused.value)


def test_what_holds_instead_may_be_of_another_factor(tmp_path: Path) -> None:
    record(tmp_path, GOOD | {"instead": ["IX-1"]})
    assert bends.read(tmp_path, KNOWN)[0].instead == ("IX-1",)


def test_a_record_needs_sixty_words(tmp_path: Path) -> None:
    record(tmp_path, GOOD, words=60)
    assert bends.read(tmp_path, KNOWN)
    record(tmp_path, GOOD, words=59)
    with pytest.raises(Refused, match=r"its record has 59 words; tell situation"):
        bends.read(tmp_path, KNOWN)


def test_the_longest_bend_lasts_400_days(tmp_path: Path) -> None:
    record(tmp_path, GOOD | {"expires": DECIDED + timedelta(400)})
    assert bends.read(tmp_path, KNOWN)


def test_two_records_for_one_check_are_refused(tmp_path: Path) -> None:
    record(tmp_path, GOOD)
    record(tmp_path, GOOD | {"waives": ["VI-3"]}, name="0008-more")
    assert len(bends.read(tmp_path, KNOWN)) == 2
    record(tmp_path, GOOD | {"waives": ["VI-3", "VI-1"]}, name="0008-more")
    with pytest.raises(
        Refused, match=r"0008-more\.md: docs/decisions/0007-rooms\.md waives VI-1 too"
    ):
        bends.read(tmp_path, KNOWN)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "docs/bends").glob("*.md"))])
def test_the_examples_are_what_the_kit_reads(tmp_path: Path, name: str) -> None:
    write(tmp_path, (ROOT / f"docs/bends/{name}.md").read_text())
    expected = EXAMPLES.get(name, [])
    if isinstance(expected, str):
        with pytest.raises(Refused, match=expected):
            bends.read(tmp_path, KNOWN)
    else:
        assert [check for bend in bends.read(tmp_path, KNOWN) for check in bend.waives] == expected


def test_every_scenario_has_an_example() -> None:
    assert {path.stem for path in (ROOT / "docs/bends").glob("*.md")} == {"README", *EXAMPLES}
    assert set(bends.SCENARIOS) - {"other"} <= set(EXAMPLES)


def results(**verdicts: str) -> list[Result]:
    """Results of the checks VI_1, VI_B1 and so on."""
    return [
        Result(Check(id, "must", (), (), True, "factor_06.py", lambda _: ""), verdict, "saw", 0.1)
        for id, verdict in ((name.replace("_", "-"), one) for name, one in verdicts.items())
    ]


GOOD_BEND = Bend(
    *("VI", "websocket-rooms", ("VI-1",), ("rooms",), ("VI-B1", "VI-B2"), "Rooms.", "@rt"),
    *(DECIDED, EXPIRES, "docs/decisions/0007-rooms.md"),
)


@pytest.mark.parametrize(
    ("first", "instead", "today", "verdict", "says"),
    [
        ("broken", "held", EXPIRES, "bent", "0007-rooms.md, until 2027-05-23, @rt"),
        ("broken", "held", DECIDED - timedelta(1), "bent", "until"),
        ("broken", "held", DECIDED - timedelta(2), "expired", "2026-11-23 to 2027-05-23"),
        ("broken", "held", EXPIRES + timedelta(1), "expired", "2026-11-23 to 2027-05-23"),
        *(
            ("broken", one, DECIDED, "unheld", "VI-B2 must hold instead: docs/decisions/0007")
            for one in ("broken", "not run", "does not apply")
        ),
        ("held", "held", DECIDED, "stale", "take it out of docs/decisions/0007-rooms.md"),
        ("held", "held", EXPIRES + timedelta(1), "stale", "take it out of"),
        ("does not apply", "held", DECIDED, "stale", "take it out of"),
        ("not run", "held", DECIDED, "not run", "saw"),
    ],
)
def test_what_becomes_of_a_waived_check(
    first: str, instead: str, today: date, verdict: str, says: str
) -> None:
    seen = results(VI_1=first, VI_2="held", VI_3="broken", VI_B1="held", VI_B2=instead)
    judged = bends.judge(seen, [GOOD_BEND], today)
    assert [one.verdict for one in judged] == [verdict, "held", "broken", "held", instead]
    assert says in judged[0].evidence
    assert judged[0].evidence.endswith("saw")
    assert judged[1:] == seen[1:]
    assert ok(judged[:1], ["VI"]) is (verdict == "bent")


def test_what_should_hold_instead_has_to_be_run() -> None:
    (judged, _) = bends.judge(results(VI_1="broken", VI_B1="held"), [GOOD_BEND], DECIDED)
    assert (judged.verdict, "VI-B2 must hold" in judged.evidence) == ("unheld", True)


def test_without_bends_nothing_is_judged_anew() -> None:
    seen = results(VI_1="broken", VI_2="held")
    assert bends.judge(seen, [], DECIDED) == seen


@pytest.mark.parametrize(("days", "warned"), [(31, 0), (30, 1), (0, 1), (-1, 0)])
def test_a_bend_is_announced_thirty_days_before_it_expires(days: int, warned: int) -> None:
    assert len(bends.warnings([GOOD_BEND], EXPIRES - timedelta(days))) == warned
