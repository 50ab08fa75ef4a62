"""In place of a container engine: a `docker` that notes what it is told, and runs nothing."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .catalogue import require
from .kit import Kit

# What it was told: words, environment, what stood on its input, of a build the context's files.
Call = dict[str, Any]

# Answers as one that has built, pulled and started all it was asked for; while there is a file
# `fails` beside it, no one-off succeeds.
DOCKER = """\
#!{python} -I
import json, os, pathlib, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
context = pathlib.Path(words[-1])
given = sys.stdin.read() if words[0] == "compose" and "-" in words else ""
files = [one for one in context.rglob("*") if one.is_file()] if words[0] == "build" else []
files = [str(one.relative_to(context)) for one in files]
call = dict(words=words, env=dict(os.environ), given=given, files=files)
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(call) + "\\n")
said = " ".join(words)
if "Config.Labels" in said:
    print((here / "commit").read_text())
elif words[:2] == ["image", "inspect"]:
    print("sha256:" + "a" * 64)
elif words[0] == "compose" and "run" in words and (here / "fails").exists():
    sys.exit("the one-off failed")
elif words[0] == "ps" and "compose.project=" in said:
    print("one: Up 1 second (healthy)")
elif words[0] == "compose" and "port" in words:
    print((here / os.environ["RELEASE_ID"]).read_text())
"""


@dataclass(frozen=True)
class Verbs:
    """A commit of the service, with the verbs of bin/, which reach no engine but the noted one."""

    checkout: Path
    engine: Path
    state: Path

    async def run(self, verb: str, *words: str, seconds: int = 30) -> tuple[int, str, str]:
        """How a verb ends, its last line, and all that it says, with no setting around.

        seconds: how long it may wait for processes.
        """
        child = await asyncio.create_subprocess_exec(
            *(str(self.checkout / "bin" / verb), *words),
            cwd=self.state,
            env={
                "DELIVERY_HOME": str(self.state / "home"),
                "DELIVERY_SECONDS": str(seconds),
                "DELIVERY_TARGET": "compose",
                "HOME": str(self.state),
                "PATH": os.pathsep.join([str(self.engine), os.environ["PATH"]]),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = [text.decode() for text in await child.communicate()]
        assert child.returncode is not None
        return child.returncode, (out.splitlines() or [""])[-1], out + err

    async def answer(self, verb: str, *words: str) -> str:
        """The last line of a verb that must do its work."""
        code, line, said = await self.run(verb, *words)
        require(code == 0, f"bin/{verb} ended with {code}: {said[-400:]}")
        return line

    async def refused(self, verb: str, *words: str) -> str:
        """What a verb says that must do nothing."""
        before = len(self.calls)
        code, _, said = await self.run(verb, *words)
        require(code != 0, f"bin/{verb} {' '.join(words)} ended with 0")
        done = [one["words"] for one in self.calls[before:] if one["words"][0] in DOES]
        require(not done, f"bin/{verb} ended with {code} after {done[:1]}")
        return said

    @property
    def calls(self) -> list[Call]:
        """What the engine was told."""
        noted = self.engine / "calls"
        lines = noted.read_text().splitlines() if noted.exists() else []
        return [json.loads(line) for line in lines]

    def git(self, *words: str) -> str:
        person = ["-c", "user.name=Kit", "-c", "user.email=kit@example.org"]
        command = ["git", *person, *words]
        return subprocess.check_output(command, cwd=self.checkout, text=True).strip()

    def commit(self) -> str:
        """Commit all that is there; the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "As it is")
        made = self.git("rev-parse", "HEAD")
        (self.engine / "commit").write_text(made)
        return made


DOES = {"build", "push", "run", "compose"}


def verbs(kit: Kit, folder: Path) -> Verbs:
    """The service in a repository of its own below this folder."""
    made = Verbs(folder / "checkout", folder / "engine", folder / "state")
    kit.copied(made.checkout)
    made.engine.mkdir()
    made.state.mkdir()
    docker = made.engine / "docker"
    docker.write_text(DOCKER.format(python=sys.executable))
    docker.chmod(0o755)
    made.git("init", "--quiet")
    made.commit()
    return made
