"""Render the template as it lies in the work tree: in process, and fast."""

import atexit
import fcntl
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import copy2, rmtree
from typing import Any
from unittest.mock import patch

import copier
import copier._main
import copier._vcs
import yaml

ROOT = Path(__file__).parent.parent
QUESTIONS: dict[str, dict[str, Any]] = {
    question: details
    for file in re.findall(r"^!include (.+)$", (ROOT / "copier.yml").read_text(), re.MULTILINE)
    for question, details in yaml.safe_load((ROOT / file).read_text()).items()
}
FEATURES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "extensions/registry.yml").read_text())


@dataclass(frozen=True)
class Project:
    """A generated repository."""

    path: Path

    def read(self, name: str) -> str:
        return (self.path / name).read_bytes().decode()

    def files(self) -> list[str]:
        found = (path for path in self.path.rglob("*") if not path.is_dir())
        return sorted(str(path.relative_to(self.path)) for path in found)

    def tree(self) -> dict[str, str]:
        """Every file and its text, without the one thing that is not in the answers."""
        return {
            name: self.read(name).replace(str(work_tree()), "TEMPLATE") for name in self.files()
        }


Generate = Callable[..., Project]


def render(answers: dict[str, Any], destination: Path, template: Path | None = None) -> Path:
    """Make of these answers what `copier copy --defaults` makes of them."""
    if unknown := answers.keys() - QUESTIONS:
        raise TypeError(f"No such question: {', '.join(sorted(unknown))}. Copier would ignore it.")
    with _fast():
        copier.run_copy(
            str(template or work_tree()),
            destination,
            data=answers,
            defaults=True,
            quiet=True,
            unsafe=False,
        )
    return destination


@cache
def work_tree() -> Path:
    """A copy of all that could be committed now; without a history, so that no tag is preferred."""
    copy = Path(tempfile.mkdtemp(prefix="template-"))
    atexit.register(rmtree, copy)
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        copy2(ROOT / name, copy / name)
    return copy


def tracked(*paths: str) -> list[str]:
    """What git knows, or would know after `git add`, of the files below these paths."""
    command = ["git", "ls-files", "-coz", "--exclude-standard", "--", *paths]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).exists())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is at work in this folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _fast() -> Iterator[None]:
    """Compile each template once, do not ask git about each file, read YAML with the C library.

    Some of these names are private. Should one go, rendering is slow and still right.
    """
    environment = getattr(copier._main, "SandboxedEnvironment", None)
    with ExitStack() as stack:
        stack.enter_context(
            patch.object(yaml, "SafeLoader", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        )
        if environment and hasattr(environment, "compile"):
            stack.enter_context(
                patch.object(environment, "compile", compiled_once(environment.compile))
            )
        if hasattr(copier._main, "is_git_available"):
            stack.enter_context(patch.object(copier._main, "is_git_available", lambda: False))
        if hasattr(copier._vcs, "is_git_bundle"):
            stack.enter_context(patch.object(copier._vcs, "is_git_bundle", lambda _: False))
        yield


@cache
def compiled_once(compile_template: Callable[..., Any]) -> Callable[..., Any]:
    compiled: dict[Any, Any] = {}

    def compile_once(self: Any, *arguments: Any, **options: Any) -> Any:
        key = (*arguments, *options.items())
        if key not in compiled:
            compiled[key] = compile_template(self, *arguments, **options)
        return compiled[key]

    return compile_once
