"""The list of violations fits the service: bin/violations lets the kit find them."""

import shutil
from pathlib import Path

import pytest
from render import Generate
from violations import ALL, FACTORS
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
    assert len(ALL) == sum(len(module.VIOLATIONS) for module in FACTORS.values())
