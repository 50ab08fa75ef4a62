"""The conformance kit finds violations, and the list of them fits the service: bin/violations."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from render import Generate
from violations import ALL, FACTORS, judge
from violations.judge import Service
from violations.violation import WEB, Rotten, Violation

# One of each factor. All of them take bin/violations half an hour.
SOME = (
    "commit-const",
    "shell-out",
    "env-name",
    "live-needs-db",
    "release-frozen",
    "idem-ram",
    "loopback",
    "work-in-request",
    "hard-exit",
    "version-drift",
    "print",
    "not-idempotent",
)
ENDS = Violation(
    name="ends",
    factor="IX",
    stands_for="a web process that does not start",
    edits={WEB: ("    app = create(settings)\n", "    return 1\n    app = create(settings)\n")},
    killed_by="IX-1",
)
HARMLESS = Violation(
    name="harmless",
    factor="X",
    stands_for="a comment",
    edits={WEB: ("", "\n# A comment.\n")},
    killed_by="X-1",
)

served = pytest.mark.xdist_group("violations")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with judge.serving(judge.prepare({})) as service:
        yield service


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
    assert len(ALL) == sum(len(module.VIOLATIONS) for module in FACTORS.values())
    assert [ALL[name].factor for name in SOME] == list(FACTORS)


@served
@pytest.mark.parametrize("name", SOME)
def test_the_kit_finds_what_the_laptop_does_not(name: str, service: Service) -> None:
    verdict = judge.judge(ALL[name], service)
    assert (verdict.smoke, verdict.fault, verdict.broken) == ("", "", [ALL[name].killed_by])
    assert verdict.killed


@served
def test_a_change_that_breaks_nothing_is_not_killed(service: Service) -> None:
    verdict = judge.judge(HARMLESS, service)
    assert (verdict.smoke, verdict.fault, verdict.broken) == ("", "", [])
    assert not verdict.killed


@served
def test_what_the_laptop_sees_does_not_count(service: Service) -> None:
    verdict = judge.judge(ENDS, service)
    assert "web ended with 1" in verdict.smoke
    assert not verdict.killed
