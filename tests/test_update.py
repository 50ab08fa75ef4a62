"""`copier update`: an earlier service takes the newest template, and its owner's work survives."""

import shutil
import subprocess
from pathlib import Path

import copier
import pytest
from conftest import tool
from render import ROOT, tracked
from test_boot import environment, run

SETTING = """    answer: int = 0

    @property
    def twice(self) -> int:
        return 2 * self.answer
"""
ROUTE = """

@router.get("/mine")
async def mine() -> str:
    return "mine"
"""


def git(*command: str, cwd: Path) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.check_output(["git", *identity, *command], cwd=cwd, text=True).strip()


def commit(folder: Path, message: str) -> None:
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a repository with two releases: its earliest usable commit, and now."""
    folder = tmp_path_factory.mktemp("template") / "template"
    git("clone", "--quiet", "--no-tags", str(ROOT), str(folder), cwd=ROOT)
    # Before this line came into the README there was no place in it for its owner.
    line = ["-SYours below this line", "--", "template/README.md.jinja"]
    earliest = git("log", "--reverse", "--format=%H", *line, cwd=folder).split()[0]
    git("tag", "0.0.1", earliest, cwd=folder)
    for name in git("ls-files", cwd=folder).splitlines():
        (folder / name).unlink()
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    commit(folder, "The work tree")
    git("tag", "999", cwd=folder)
    return folder


def generated(template: Path, folder: Path, ref: str, **answers: object) -> Path:
    copier.run_copy(
        str(template), folder, data=answers, defaults=True, quiet=True, unsafe=False, vcs_ref=ref
    )
    git("init", "--quiet", cwd=folder)
    commit(folder, f"From {ref}")
    return folder


def update(folder: Path, *answers: str) -> None:
    data = [word for answer in answers for word in ("--data", answer)]
    run_copier = [tool("copier"), "update", "--defaults", "--quiet", *data]
    done = subprocess.run(run_copier, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    marked = git("status", "--porcelain", cwd=folder)
    assert not [line for line in marked.splitlines() if "U" in line[:2] or line.endswith(".rej")]


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def contents(folder: Path) -> dict[str, bytes]:
    names = git("ls-files", "-co", "--exclude-standard", cwd=folder).splitlines()
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def test_an_updated_service_equals_a_new_one(template: Path, tmp_path: Path) -> None:
    old = generated(template, tmp_path / "old", "0.0.1")
    update(old)

    new = contents(generated(template, tmp_path / "new", "999"))
    updated = contents(old)
    # What is its owner's from the first day is left as it was.
    yours = copier_yours(old)
    assert {name for name in new.keys() ^ updated.keys() if name not in yours} == set()
    assert [name for name in new if name not in yours and new[name] != updated[name]] == []


def copier_yours(folder: Path) -> set[str]:
    """The files that the template writes once."""
    import yaml
    from pathspec import GitIgnoreSpec

    settings = next(yaml.safe_load_all((ROOT / "copier.yml").read_text().partition("\n---\n")[0]))
    spec = GitIgnoreSpec.from_lines(settings["_skip_if_exists"])
    return set(spec.match_files(contents(folder)))


def test_a_lived_in_service_updates_without_a_conflict(template: Path, tmp_path: Path) -> None:
    service = generated(template, tmp_path / "service", "0.0.1")
    env = environment(tmp_path / "home")
    (package,) = (service / "src").iterdir()
    append(package / "routes.py", ROUTE)
    append(service / "README.md", "\n`ANSWER` is one. Ring Ada before you deploy.\n")
    append(service / ".env.example", "\n# The answer.\nANSWER=42\n")
    settings = package / "config.py"
    settings.write_text(
        settings.read_text().replace(
            "    # Yours below this line.\n",
            f"    # Yours below this line.\n\n{SETTING}",
        )
    )
    subprocess.run([tool("uv"), "add", "--quiet", "humanize"], cwd=service, check=True)
    (service / "compose.yaml").unlink()
    commit(service, "Ours")

    update(service)

    assert ROUTE in (package / "routes.py").read_text()
    assert SETTING in settings.read_text()
    assert '"humanize' in (service / "pyproject.toml").read_text()
    assert "Ring Ada" in (service / "README.md").read_text()
    assert "ANSWER=42" in (service / ".env.example").read_text()
    assert not (service / "compose.yaml").exists()
    run("bin/setup", service, env)
    run("bin/ci", service, env)


@pytest.mark.parametrize("answer", ["example=false", "kubernetes=false", "scheduler=false"])
def test_a_feature_goes_and_comes_back(answer: str, template: Path, tmp_path: Path) -> None:
    service = generated(template, tmp_path / "service", "999")
    before = contents(service)

    update(service, answer)
    commit(service, "Off")
    without = contents(service)
    assert without.keys() < before.keys()

    update(service, answer.replace("false", "true"))
    assert contents(service) == before
