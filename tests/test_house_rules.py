"""The rules of this repository that a reader relies on: docs/decisions says why."""

import os
import re
import subprocess
import time
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import yaml
from cases import name, pairwise, valid_sets
from pathspec import PathSpec
from render import (
    FEATURES,
    QUESTIONS,
    ROOT,
    Generate,
    Project,
    compiled_once,
    render,
    tracked,
    work_tree,
)

# Files that loop over features. One more than these needs a decision record.
HUBS = {
    ".env.example.jinja",
    "Procfile.jinja",
    "README.md.jinja",
    "compose.yaml.jinja",
    "deploy/k8s/base/kustomization.yaml.jinja",
    "fly.toml.jinja",
    "pyproject.toml.jinja",
    "src/{{ package }}/config.py.jinja",
    "src/{{ package }}/parts.py.jinja",
}
PRINTED_PATHS = {"{{ package }}", "{{ _copier_conf.answers_file }}.jinja"}

SETTINGS = re.sub("^!include .*$", "", (ROOT / "copier.yml").read_text(), flags=re.MULTILINE)
SOURCES = {
    path.removeprefix("template/"): (ROOT / path).read_text() for path in tracked("template")
}
FRAGMENTS = {
    path: (ROOT / path).read_text() for path in tracked("extensions") if path.count("/") == 2
}

every_set = pytest.mark.xdist_group("all")


def settings() -> dict[str, object]:
    return {
        name: value
        for document in yaml.safe_load_all(SETTINGS)
        if document
        for name, value in document.items()
    }


def tags(text: str) -> list[str]:
    """What stands between the delimiters of the template language."""
    return re.findall(r"\{[{%](.*?)[%}]\}", text, re.DOTALL)


def branches(text: str) -> int:
    return len([word for tag in tags(text) for word in re.findall(r"\b(?:el)?if\b", tag)])


def matches(pattern: str, path: str) -> bool:
    return PathSpec.from_lines("gitignore", [pattern]).match_file(path)


@pytest.fixture(scope="module")
def enabled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The features that each valid set switches on, printed by a template that does only this."""
    folder = tmp_path_factory.mktemp("enabled")
    probe = copytree(work_tree(), folder / "template")
    rmtree(probe / "template")
    (probe / "template").mkdir()
    (probe / "template/enabled.jinja").write_text("{{ enabled | to_json }}")
    return {
        name(answers): yaml.safe_load(
            Project(render(answers, folder / name(answers), probe)).read("enabled")
        )
        for answers in valid_sets()
    }


@pytest.fixture(scope="module")
def paths(generate: Generate) -> set[str]:
    """Every path that any set emits."""
    return {path for answers in valid_sets() for path in generate(**answers).files()}


def test_paths_print_the_package_and_the_answers_file_alone() -> None:
    printed = {part for path in SOURCES for part in path.split("/") if re.search("[{}]", part)}
    assert printed == PRINTED_PATHS


def test_paths_are_possible_on_every_system() -> None:
    assert [path for path in SOURCES if re.search(r'["<>:|?*\\]', path)] == []


def test_the_suffix_jinja_means_that_something_is_printed() -> None:
    # A .gitignore here without the suffix would hide files of the template from git.
    static = {path for path in SOURCES if path.endswith(".jinja") and not tags(SOURCES[path])}
    assert static == {".gitignore.jinja"}


def test_only_hubs_have_statements_and_at_most_one_branch() -> None:
    assert {path for path, text in SOURCES.items() if "{%" in text} == HUBS
    assert len(HUBS) <= 9
    assert {path: branches(SOURCES[path]) for path in HUBS if branches(SOURCES[path]) > 1} == {}
    others = {path: text for path, text in (SOURCES | FRAGMENTS).items() if path not in HUBS}
    assert {path for path, text in others.items() if branches(text)} == set()


def test_no_statement_of_the_template_names_a_feature() -> None:
    named = {
        (path, feature)
        for path, text in SOURCES.items()
        if path.endswith(".jinja")
        for tag in tags(text)
        for feature in FEATURES
        if re.search(rf"(?<![\w.]){feature}\b|\bfeatures\.{feature}\b", tag)
    }
    assert named == set()


def test_no_tag_strips_whitespace() -> None:
    files = {path: (ROOT / path).read_text() for path in ["copier.yml", *tracked("questions")]}
    files |= FRAGMENTS | {path: text for path, text in SOURCES.items() if path.endswith(".jinja")}
    assert {path for path, text in files.items() if re.search(r"\{[{%#]-|-[}%#]\}", text)} == set()


def test_every_fragment_is_included() -> None:
    included = re.findall(
        r'include "extensions/" ~ name ~ "/(.+?)"', "".join(SOURCES[hub] for hub in HUBS)
    )
    for path in FRAGMENTS:
        _, feature, fragment = path.split("/")
        assert feature in FEATURES, path
        assert fragment in included, path


@every_set
def test_every_feature_can_be_on(enabled: dict[str, list[str]]) -> None:
    assert {feature for features in enabled.values() for feature in features} == set(FEATURES)


@every_set
def test_a_file_comes_with_all_features_that_own_it(
    enabled: dict[str, list[str]], paths: set[str], generate: Generate
) -> None:
    owners = {
        path: {
            feature
            for feature, about in FEATURES.items()
            for pattern in about.get("files", [])
            if matches(pattern, path)
        }
        for path in paths
    }
    assert len(paths) == len(SOURCES)
    for answers in valid_sets():
        on = set(enabled[name(answers)])
        assert set(generate(**answers).files()) == {path for path in paths if owners[path] <= on}


@every_set
@pytest.mark.parametrize("feature", FEATURES)
def test_every_pattern_of_a_feature_hits_a_path(feature: str, paths: set[str]) -> None:
    patterns = FEATURES[feature].get("files", [])
    assert [one for one in patterns if not any(matches(one, path) for path in paths)] == []


@every_set
def test_every_path_that_is_yours_exists(paths: set[str]) -> None:
    patterns = settings()["_skip_if_exists"]
    assert isinstance(patterns, list)
    assert [one for one in patterns if not any(matches(one, path) for path in paths)] == []


@every_set
def test_no_text_names_a_variable_that_is_not_read(
    enabled: dict[str, list[str]], generate: Generate
) -> None:
    variables: dict[str, set[str]] = {}
    for feature, about in FEATURES.items():
        for variable in about.get("variables", []):
            variables.setdefault(variable["name"], set()).add(feature)
    named = {
        (path, variable)
        for answers in valid_sets()
        for path, text in generate(**answers).tree().items()
        for variable in variables.keys() & set(re.findall("[A-Z0-9_]+", text))
        if not variables[variable] & set(enabled[name(answers)]) and not path.endswith(".py")
    }
    assert named == set()


def test_nobody_is_asked_for_trust() -> None:
    assert settings().keys() & {"_jinja_extensions", "_migrations", "_tasks"} == set()


# Copier leaves a folder open when it fails.
@pytest.mark.filterwarnings("ignore:unclosed scandir:ResourceWarning")
def test_a_misspelt_variable_is_an_error(tmp_path: Path) -> None:
    template = copytree(work_tree(), tmp_path / "template")
    (template / "template/misspelt.jinja").write_text("{{ project_nam }}\n")
    with pytest.raises(Exception, match="'project_nam' is undefined"):
        render({}, tmp_path / "service", template)


def test_every_question_has_a_default_and_a_help_or_a_refusal() -> None:
    for question, about in QUESTIONS.items():
        assert "default" in about, question
        assert ("validator" if about.get("when") is False else "help") in about, question


def test_the_same_answers_make_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another folder and on another day: these time zones never have the same date."""
    made = []
    for zone in ("<+14>-14", "<-12>+12"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        compiled_once.cache_clear()  # what is constant is printed by the compiler
        folders = {
            name(answers): render(answers, tmp_path / zone / name(answers))
            for answers in pairwise()
        }
        made.append({name: Project(folder).tree() for name, folder in folders.items()})
    monkeypatch.undo()
    time.tzset()
    assert made[0] == made[1]


def test_git_sees_every_file_of_the_template() -> None:
    found = {
        str(path.relative_to(ROOT / "template"))
        for path in (ROOT / "template").rglob("*")
        if path.is_file() and not re.search("__pycache__|_cache/", str(path))
    }
    assert found == set(SOURCES)


@every_set
def test_no_host_of_a_package_registry_is_named(hosts: list[str]) -> None:
    files = {path: (ROOT / path).read_bytes().decode(errors="replace") for path in tracked()}
    assert {path for path, text in files.items() for host in hosts if host in text} == set()


def test_a_benchmark_that_is_not_there_is_named() -> None:
    """And so every benchmark can be imported as bin/bench does it."""
    done = subprocess.run(["bin/bench", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("There is no benchmark nothing: name some of")


@every_set
def test_a_group_of_tests_stays_together(request: pytest.FixtureRequest) -> None:
    """Or each of pytest's processes renders every set: pytest-xdist finds the group in the id."""
    assert request.node.nodeid.endswith("@all") == ("PYTEST_XDIST_WORKER" in os.environ)
