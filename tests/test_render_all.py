"""Every valid set of answers, rendered and checked."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import hygiene
import pytest
from cases import every_set, name, valid_sets
from conftest import tool
from render import ROOT, Project, render

pytestmark = pytest.mark.xdist_group("all")

Projects = dict[str, Project]


def cpu() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@pytest.fixture(scope="module")
def started(service: Path) -> float:
    """The CPU time before the first set; installing the packages of a service is not counted."""
    return cpu()


@pytest.fixture(scope="module")
def projects(started: float, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """What comes of every combination of choices that is not refused."""
    folder = tmp_path_factory.mktemp("all")
    made = {}
    for answers in every_set():
        try:
            made[name(answers)] = Project(render(answers, folder / name(answers)))
        except ValueError:
            continue
    return made


@pytest.fixture(scope="module")
def trees(projects: Projects) -> dict[str, dict[str, str]]:
    return {name: project.tree() for name, project in projects.items()}


def distinct_python(projects: Projects) -> list[str]:
    """The Python files of all projects, each once if it is the same in several."""
    files = {
        (name, project.read(name)): str(project.path / name)
        for project in projects.values()
        for name in project.files()
        if name.endswith(".py")
    }
    return list(files.values())


def passes(*command: str | Path, cwd: Path) -> None:
    result = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert result.returncode == 0, f"{cwd}\n{result.stdout}"


def test_the_questions_allow_exactly_the_valid_sets(projects: Projects) -> None:
    assert sorted(projects) == sorted(map(name, valid_sets()))


def test_every_file_is_whole_and_clean(trees: dict[str, dict[str, str]]) -> None:
    files = {file for tree in trees.values() for file in tree.items()}
    assert sorted(fault for file in files for fault in hygiene.faults(*file)) == []


def test_nothing_of_the_template_language_is_left(trees: dict[str, dict[str, str]]) -> None:
    left = {
        (name, *re.findall(r"\{[{%].*", text.replace("${{", "") if ".github/" in name else text))
        for tree in trees.values()
        for name, text in tree.items()
    }
    # Not rendered, and full of what the container engine's own templates look like.
    engine = re.compile(r"deploy/\w+\.py|tests/(delivering|test_delivery)\.py")
    assert {one for one in left if len(one) > 1 and not engine.fullmatch(one[0])} == set()


def test_no_host_of_a_package_registry_is_named(
    trees: dict[str, dict[str, str]], hosts: list[str]
) -> None:
    files = {file for tree in trees.values() for file in tree.items()}
    assert {(name, host) for name, text in files for host in hosts if host in text} == set()


def test_no_folder_is_empty(projects: Projects) -> None:
    folders = [
        path
        for project in projects.values()
        for path in project.path.rglob("*")
        if path.is_dir() and not any(path.iterdir())
    ]
    assert folders == []


def test_scripts_can_be_run_and_nothing_else(projects: Projects) -> None:
    scripts = set()
    for project in projects.values():
        for file in project.files():
            executable = os.access(project.path / file, os.X_OK)
            assert executable == file.startswith("bin/"), file
            if executable:
                scripts.add(project.read(file))
    for script in scripts:
        assert script.startswith("#!/bin/sh\n")
        subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=True)


def test_the_emitted_formatter_leaves_no_diff(projects: Projects) -> None:
    files = distinct_python(projects)
    passes(tool("ruff"), "format", "--check", "--no-cache", *files, cwd=ROOT)


def test_the_emitted_linter_is_content(projects: Projects) -> None:
    passes(tool("ruff"), "check", "--no-cache", *distinct_python(projects), cwd=ROOT)


def test_every_python_tree_is_typed(projects: Projects, service: Path) -> None:
    python = service / ".venv/bin/python"
    cache = ROOT / ".cache/mypy"
    seen = set()
    for project in projects.values():
        tree = [(file, project.read(file)) for file in project.files() if file.endswith(".py")]
        if (key := tuple(tree)) not in seen:
            seen.add(key)
            passes(
                *(tool("mypy"), "--strict", "--python-executable", python, "--cache-dir", cache),
                cwd=project.path,
            )


def test_what_a_set_costs_is_printed(
    projects: Projects, started: float, record_property: Callable[[str, object], None]
) -> None:
    each = (cpu() - started) / len(projects)
    figure = (
        f"{len(projects)} valid sets of answers: {each:.2f} CPU-seconds each, rendered and checked"
    )
    record_property("figure", figure)
