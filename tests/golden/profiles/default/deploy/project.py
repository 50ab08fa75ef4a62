"""What the repository says of itself: its name, its image, its commit, what its settings read."""

import ast
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
REQUIRED = object()


class Refused(Exception):
    """What was asked for is not done: one sentence that says why and what to do."""


def name() -> str:
    return str(_table()["project"]["name"])


def image() -> str:
    """The image's name, without a tag."""
    return str(_table()["tool"]["delivery"]["image"])


def settings() -> dict[str, Any]:
    """Every variable that the service reads with its default, REQUIRED if it has none."""
    [config] = ROOT.glob("src/*/config.py")
    [fields] = [
        node.body
        for node in ast.parse(config.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    return {
        field.target.id.upper(): _default(field.value)
        for field in fields
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def commit() -> str:
    """The commit of this work tree; refused if something in it is not committed."""
    try:
        changed = output("git", "-C", str(ROOT), "status", "--porcelain")
        revision = output("git", "-C", str(ROOT), "rev-parse", "HEAD").strip()
    except (Failed, Refused):
        raise Refused("Only a commit can be built: git init, commit, then try again.") from None
    if changed:
        files = ", ".join(line[3:] for line in changed.splitlines()[:3])
        raise Refused(f"Only what is committed can be built: commit or stash {files} first.")
    return revision


class Failed(Exception):
    """A program ended with an error, or a condition did not come in time."""


def output(*command: str, env: Mapping[str, str] | None = None, given: str | None = None) -> str:
    """What a program prints; raises Failed with what it says when it fails."""
    try:
        done = subprocess.run(command, env=env, input=given or "", capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not on the PATH: install it.") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"{command[0]} {command[1]}: {said[-1] if said else done.returncode}")
    return done.stdout


def show(
    *command: str,
    cwd: Path | None = None,
    dry_run: bool = False,
    env: Mapping[str, str] | None = None,
    given: str | None = None,
    seconds: float | None = None,
) -> None:
    """Run a program whose output a person reads; raises Failed when it fails.

    given: its standard input. seconds: after which it is killed. dry_run: only say it.
    """
    say(f"$ {shlex.join(command)}")
    if dry_run:
        return
    try:
        code = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            input=given or "",
            stdout=sys.stderr,
            text=True,
            timeout=seconds,
        ).returncode
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not on the PATH: install it.") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{shlex.join(command)} took more than {seconds:g} s") from None
    if code:
        raise Failed(f"{shlex.join(command)} ended with {code}")


def say(line: str) -> None:
    """To a person; the last line of standard output is the answer alone."""
    print(line, file=sys.stderr, flush=True)


def _table() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _default(value: ast.expr | None) -> Any:
    """The default of a field: as it stands, or as the argument of Field()."""
    if isinstance(value, ast.Call):
        value = value.args[0] if value.args else None
    return REQUIRED if value is None else ast.literal_eval(value)
