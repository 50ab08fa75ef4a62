"""The real command, as a person types it: without --trust, from a committed template."""

import os
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import yaml
from cases import Answers, name, pairwise, valid_sets
from conftest import tool
from render import Generate, Project, work_tree

Copy = Callable[..., subprocess.CompletedProcess[str]]

HOSTILE = '"It\'s" {{ 7*7 }} \\ # `x` ]] 請求書 🧾'
SECRETS = [".env", ".env.production", "server.pem", "deploy/tls.key", "src/.env.local"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A newcomer's: no settings of Copier, no settings of git."""
    home = tmp_path_factory.mktemp("home")
    identity = {"NAME": "A Person", "EMAIL": "person@example.com"}
    return {
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": os.environ["PATH"],
        **{
            f"GIT_{who}_{key}": identity[key] for who in ("AUTHOR", "COMMITTER") for key in identity
        },
    }


@pytest.fixture(scope="session")
def git(environment: dict[str, str]) -> Callable[..., str]:
    def git(folder: Path, *arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.check_output(command, env=environment, text=True)

    return git


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, git: Callable[..., str]) -> Path:
    """A clone of the template with one commit."""
    clone = copytree(work_tree(), tmp_path_factory.mktemp("clone") / "template")
    git(clone, "init", "--quiet")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "The template")
    return clone


@pytest.fixture(scope="session")
def copy(template: Path, environment: dict[str, str]) -> Copy:
    def copy(
        destination: Path, path: str = environment["PATH"], **answers: object
    ) -> subprocess.CompletedProcess[str]:
        command = [tool("copier"), "copy", "--defaults"]
        for question, answer in answers.items():
            words = yaml.safe_dump(answer, default_flow_style=True).strip()
            command += ["--data", f"{question}={answer if isinstance(answer, str) else words}"]
        return subprocess.run(
            [*command, str(template), str(destination)],
            env=environment | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return copy


def files(folder: Path) -> dict[str, bytes]:
    """All but the answers, which record where the template was."""
    names = Project(folder).files()
    return {name: (folder / name).read_bytes() for name in names if name != ".copier-answers.yml"}


@pytest.mark.parametrize("answers", pairwise(), ids=name)
def test_every_choice_can_be_typed(
    answers: Answers, copy: Copy, generate: Generate, tmp_path: Path
) -> None:
    result = copy(tmp_path / "service", **answers)
    assert result.returncode == 0, result.stdout
    assert files(tmp_path / "service") == files(generate(**answers).path)
    recorded = yaml.safe_load((tmp_path / "service/.copier-answers.yml").read_text())
    assert recorded["_commit"]


def test_the_next_commands_are_told(copy: Copy, tmp_path: Path) -> None:
    said = copy(tmp_path / "service", project_name="parcel-desk").stdout
    _, _, told = said.partition("parcel-desk is written. Next:")
    for command in (f"cd {tmp_path}/service", "git init", "bin/setup", "bin/dev", "bin/ci"):
        assert command in told


def test_hostile_words_can_be_typed(copy: Copy, tmp_path: Path) -> None:
    assert copy(tmp_path / "service", description=HOSTILE).returncode == 0
    about = tomllib.loads((tmp_path / "service/pyproject.toml").read_text())["project"]
    assert about["description"] == HOSTILE


@pytest.mark.parametrize(
    ("question", "answer", "sentence"),
    [
        ("flavor", "web", "'web' is not in ['api', 'worker', 'both']"),
        ("services", [], "A worker takes its jobs from a queue: choose postgres, or redis."),
        ("scheduler", "maybe", "'maybe' is not in [True, False]"),
        ("project_name", "o" * 200, "Use lowercase letters, digits and single hyphens"),
        ("project_name", 'or\\d"ers', "Use lowercase letters, digits and single hyphens"),
        ("project_name", "json", "json would hide the Python module of that name"),
        ("description", "no text \udcff", "Say it in one line of 1 to 200 characters."),
        ("package", "other", "package follows from project_name and cannot be answered."),
    ],
)
def test_a_wrong_answer_writes_nothing(
    question: str, answer: object, sentence: str, copy: Copy, tmp_path: Path
) -> None:
    # Into a folder that is there already: Copier would take away one that it made itself.
    result = copy(tmp_path, **{question: answer})
    assert result.returncode != 0
    assert sentence in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept_and_named(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Mine.\n")
    result = copy(tmp_path)
    assert result.returncode != 0
    assert "conflict" in result.stdout
    assert "Consider using `--overwrite`" in result.stdout
    assert (tmp_path / "README.md").read_text() == "Mine.\n"


def test_a_file_that_is_yours_is_kept(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("Mine.\n")
    assert copy(tmp_path).returncode == 0
    assert (tmp_path / "CHANGELOG.md").read_text() == "Mine.\n"
    assert (tmp_path / "README.md").exists()


def test_git_is_not_needed(copy: Copy, generate: Generate, tmp_path: Path) -> None:
    assert copy(tmp_path / "service", path=str(tmp_path)).returncode == 0
    assert files(tmp_path / "service") == files(generate().path)


@pytest.mark.xdist_group("all")
def test_git_adds_all_that_is_emitted_and_no_secret(
    generate: Generate, git: Callable[..., str], tmp_path: Path
) -> None:
    for answers in valid_sets():
        project = generate(**answers)
        service = copytree(project.path, tmp_path / name(answers))
        for secret in SECRETS:
            (service / secret).parent.mkdir(parents=True, exist_ok=True)
            (service / secret).write_text("hush\n")
        git(service, "init", "--quiet")
        git(service, "add", "--all")
        assert git(service, "ls-files", "-z").split("\0")[:-1] == project.files()
