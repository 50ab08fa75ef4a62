"""What the tests share: generated projects, goldens, and figures printed after the last test."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from render import FEATURES, ROOT, Generate, Project, locked, render

GOLDEN = ROOT / "tests" / "golden"
GITLAB_CI_LOCAL = "gitlab-ci-local@4.75.1"

collect_ignore = [str(GOLDEN)]


@pytest.fixture(scope="session")
def generate(tmp_path_factory: pytest.TempPathFactory) -> Generate:
    """Generate a project from these answers and the defaults, once; only to be read."""
    made: dict[str, Project] = {}

    def generate(**answers: object) -> Project:
        key = repr(sorted(answers.items()))
        if key not in made:
            made[key] = Project(render(answers, tmp_path_factory.mktemp("generated")))
        return made[key]

    return generate


@pytest.fixture(scope="session")
def service(generate: Generate) -> Path:
    """A folder with every package that a service may have: its lock and its .venv."""
    folder = ROOT / ".cache" / "service"
    folder.mkdir(parents=True, exist_ok=True)
    packages = {
        kind: json.dumps([one for feature in FEATURES.values() for one in feature.get(kind, [])])
        for kind in ("requirements", "dev_requirements")
    }
    wanted = {
        "uv.lock": generate().read("uv.lock"),
        "pyproject.toml": '[project]\nname = "superset"\nversion = "0"\n'
        f'requires-python = ">=3.11"\ndependencies = {packages["requirements"]}\n'
        f"[dependency-groups]\ndev = {packages['dev_requirements']}\n",
    }
    done = folder / "installed"
    if not done.exists() or done.read_text() != repr(wanted):
        done.unlink(missing_ok=True)
        for name, text in wanted.items():
            (folder / name).write_text(text)
        subprocess.run(
            [tool("uv"), "sync", "--quiet", "--no-install-project", "--python", sys.executable],
            cwd=folder,
            env=os.environ | {"UV_PROJECT_ENVIRONMENT": ".venv"},
            check=True,
        )
        done.write_text(repr(wanted))
    return folder


@pytest.fixture(scope="session")
def hosts(service: Path) -> list[str]:
    """Where packages come from on this machine: no business of anybody else's."""
    address = r"https?://([^/\s\"]+\.[^/\s\"]+)"
    found = re.findall(address, (service / "uv.lock").read_text())
    assert found
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if path.exists():
            found += re.findall(rf"^(?:URIs:|deb).*?{address}", path.read_text(), re.MULTILINE)
    if npm := shutil.which("npm"):
        registry = subprocess.check_output([npm, "config", "get", "registry"], text=True)
        found += re.findall(address, registry)
    return sorted(set(found))


def tool(name: str) -> str:
    """A tool that is pinned in pyproject.toml, wherever the tests are started."""
    return str(Path(sys.executable).with_name(name))


@cache
def gitlab_ci_local() -> list[str]:
    """The command that reads and runs a pipeline of GitLab: it comes from npm, as one file."""
    folder = ROOT / ".cache" / GITLAB_CI_LOCAL
    main = folder / "node_modules/gitlab-ci-local/dist/index.js"
    with locked(folder):  # of all processes of the tests one installs it
        if not main.exists():
            quiet = ["--silent", "--ignore-scripts", "--no-save", "--no-package-lock"]
            command = [tool("npm"), "install", *quiet, "--prefix", str(folder), GITLAB_CI_LOCAL]
            subprocess.run(command, check=True)
    return [tool("node"), str(main)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="what bin/golden does")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, dict[str, str]], None]:
    """Compare files with those stored below tests/golden."""

    def golden(name: str, made: dict[str, str]) -> None:
        folder = GOLDEN / name
        if request.config.getoption("--rewrite-golden"):
            shutil.rmtree(folder, ignore_errors=True)
            for file, text in made.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_text(text)
        assert made == Project(folder).tree(), "If it is meant: bin/golden, and commit the change."

    return golden


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded as a figure."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(str(value))
