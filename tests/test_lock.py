"""The seed lock: the tested versions, completed on the machine that uses them."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from cases import PROFILES
from conftest import tool
from render import ROOT, Generate

SEED = ROOT / "template" / "uv.lock"


def uv(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("uv"), *command], cwd=cwd, capture_output=True, text=True)


def versions(lock: Path) -> dict[str, list[str]]:
    """Package to its versions, without the project itself."""
    found: dict[str, list[str]] = {}
    for package in tomllib.loads(lock.read_text())["package"]:
        if "registry" in package["source"]:
            found.setdefault(package["name"], []).append(package["version"])
    return found


@pytest.fixture
def project(generate: Generate, tmp_path: Path) -> Path:
    return Path(shutil.copytree(generate().path, tmp_path / "service"))


def test_the_seed_names_versions_and_nothing_else() -> None:
    packages = tomllib.loads(SEED.read_text())["package"]

    assert packages
    for package in packages:
        assert package.keys() <= {"name", "version", "source", "resolution-markers"}
        assert package["source"] == {"registry": "."}


def test_a_seed_that_is_not_completed_is_refused(project: Path) -> None:
    for command in (["sync", "--locked"], ["lock", "--check"]):
        refused = uv(*command, cwd=project)
        assert refused.returncode != 0
        assert "run `uv lock`" in refused.stderr
    assert (project / "uv.lock").read_text() == SEED.read_text()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_completed_lock_has_exactly_the_tested_versions(
    profile: str, generate: Generate, tmp_path: Path
) -> None:
    service = tmp_path / "service"
    shutil.copytree(generate(**PROFILES[profile]).path, service)
    completed = uv("lock", cwd=service)
    assert completed.returncode == 0, completed.stderr

    tested, locked = versions(SEED), versions(service / "uv.lock")
    assert locked.items() <= tested.items()
    assert uv("lock", "--check", cwd=service).returncode == 0


def test_what_a_user_adds_stays_and_moves_nothing_else(project: Path) -> None:
    assert uv("lock", cwd=project).returncode == 0
    before = versions(project / "uv.lock")
    assert uv("add", "--no-sync", "humanize", cwd=project).returncode == 0
    with_addition = versions(project / "uv.lock")
    assert with_addition.keys() - before.keys() == {"humanize"}
    assert all(with_addition[name] == version for name, version in before.items())

    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text().replace('"orjson>=', '"orjson!=0,>=')
    )
    assert uv("lock", cwd=project).returncode == 0
    assert versions(project / "uv.lock") == with_addition


def test_uv_is_one_version_everywhere() -> None:
    (version,) = versions(SEED)["uv"]
    for file, said in {
        "bin/tools": f"uv=={version}",
        "pyproject.toml": f"uv=={version}",
        "template/Dockerfile.jinja": f"uv:{version}",
        "template/pyproject.toml.jinja": f"uv_build=={version}",
    }.items():
        assert said in (ROOT / file).read_text(), file
    assert os.access(ROOT / "bin" / "lock", os.X_OK)
