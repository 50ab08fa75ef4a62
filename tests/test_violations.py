"""The list of violations fits the service: bin/violations lets the kit find them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from render import Generate
from violations import ALL, FACTORS, FLAVORS, IMAGE, judge, report
from violations.violation import WEB, Rotten, Violation


def applied(violation: Violation, generate: Generate, folder: Path) -> None:
    """Apply a violation to the files that it is about."""
    path = generate(**violation.answers).path
    for name in violation.edits:
        if (path / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path / name, folder / name)
    violation.apply(folder, {})


@pytest.mark.parametrize("name", ALL)
def test_a_violation_fits_the_service(name: str, generate: Generate, tmp_path: Path) -> None:
    applied(ALL[name], generate, tmp_path)
    for path in tmp_path.rglob("*.py"):
        compile(path.read_text(), path, "exec")


@pytest.mark.parametrize("anchor", ["nowhere to be found", "import"])
def test_an_anchor_stands_there_once(anchor: str, generate: Generate, tmp_path: Path) -> None:
    rotten = Violation("rotten", "I", "", {WEB: (anchor, "")}, "I-1")
    with pytest.raises(Rotten, match=anchor):
        applied(rotten, generate, tmp_path)


def test_every_factor_has_violations_of_its_own_name() -> None:
    for factor, module in FACTORS.items():
        assert len(module.VIOLATIONS) > 4
        assert {one.factor for one in module.VIOLATIONS} == {factor}
        assert {one.killed_by.partition("-")[0] for one in module.VIOLATIONS} == {factor}
    names = [one.name for module in FACTORS.values() for one in module.VIOLATIONS]
    names += IMAGE
    names += [
        f"{flavor}-{name}" for flavor, (_, tried) in FLAVORS.items() for name in tried.split()
    ]
    assert sorted(ALL) == sorted(names)


# On each flavor some, of different factors; bin/violations tries them all.
TRIED = {
    "both": ["live-needs-db", "looks-first", "no-skip-locked", "renamed-column"],
    "api": ["api-default-db", "api-number-in-ram", "api-hard-exit", "api-print"],
    "worker": ["worker-dotenv", "worker-redis-hardcoded", "worker-ignores-term"],
}


@pytest.fixture(scope="module", params=TRIED)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, judge.Service]]:
    flavor: str = request.param
    answers = ALL[TRIED[flavor][0]].answers
    with judge.serving(judge.prepare(answers, tmp_path_factory.mktemp("violations"))) as service:
        yield flavor, service


# In one process: the services of a flavor are set up once.
@pytest.mark.xdist_group("violations")
def test_the_kit_finds_violations_and_nothing_else(served: tuple[str, judge.Service]) -> None:
    flavor, service = served
    with judge.copied(service.path) as copy:
        checks = judge.conformance(copy, service.urls, [])
    assert [id for id, check in checks.items() if check["verdict"] == "broken"] == []
    for name in TRIED[flavor]:
        verdict = judge.judge(ALL[name], service, quick=True)
        assert verdict.killed, f"{name}: {verdict.smoke} {verdict.fault} {verdict.checks}"


def test_rows_are_put_into_the_table_of_the_last_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "violations.md"
    monkeypatch.setattr(report, "DOCUMENT", document)
    document.write_text("# Violations\n\n## Found\n\n| I | one | was | passes | I-1 | 4 |\n")
    broken = {"verdict": "broken", "evidence": ""}
    verdicts = [
        judge.Verdict(Violation("one", "I", "is", {}, "I-1")),
        judge.Verdict(Violation("two", "II", "new", {}, "II-1"), checks={"II-1": broken}),
    ]
    said, *_, one, two = report.added(verdicts, ["one", "two", "three"], True).splitlines()
    assert said.startswith("1 of 2 violations killed; alive: one.")
    assert one.startswith("| I | one | is | passes | **none** |")
    assert two.startswith("| II | two | new | passes | II-1 |")
