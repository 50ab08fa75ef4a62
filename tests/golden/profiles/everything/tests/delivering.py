"""A repository with the verbs of bin/; in place of an engine, programs that note what they hear."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DIGEST = f"sha256:{'a' * 64}"
IMAGE = f"registry.example/shop@{DIGEST}"
OTHER = IMAGE.replace("a" * 64, "b" * 64)
SECRET = "postgresql://shop:correct-horse@db/shop"
FILES = {
    "Dockerfile": "FROM scratch\n",
    "Procfile": "release: r\nweb: w\nworker: w\nclock: c\nconsole: c\n",
    "pyproject.toml": (
        '[project]\nname = "shop"\n[tool.delivery]\nimage = "registry.example/shop"\n'
    ),
    "src/shop/config.py": (
        "class Settings(BaseModel):\n"
        "    database_url: Url\n"
        '    log_level: str = "INFO"\n'
        '    release_id: str = "unreleased"\n'
        "    port: int = Field(8000, ge=1)\n"
        "    drain_seconds: float = Field(5, ge=0)\n"
        "    grace_seconds: float = Field(20, gt=0)\n"
    ),
    "uv.lock": "version = 1\n",
}
# Notes what it is told, and answers by the first pattern that fits. In sh, since it is asked often.
FAKE = """#!/bin/sh
here={here}
{{ printf '%s\\037' "$*"; cat; printf '\\037'; env; printf '\\036'; }} >>"$here/calls"
case "$*" in
{cases}esac
"""


@dataclass
class Checkout:
    """A repository with the verbs, and the programs that they find."""

    root: Path
    programs: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    # A pattern of the shell's for the words, the exit code, the output. A code below 0 is a signal
    # to the verb, which has to end the program then.
    answers: list[tuple[str, int, str]] = field(default_factory=list)

    def run(self, verb: str, *words: object) -> subprocess.CompletedProcess[str]:
        self.answer_as_told()
        path = os.pathsep.join([str(self.programs), str(Path(sys.executable).parent), os.defpath])
        env = {"HOME": str(self.home), "DELIVERY_HOME": str(self.home), "PATH": path}
        command = [str(self.root / "bin" / verb), *map(str, words)]
        return subprocess.run(
            command, env=env | self.environment, cwd=self.home, capture_output=True, text=True
        )

    def answer_as_told(self) -> None:
        """Write the programs anew, with their answers."""
        cases = ""
        for number, (pattern, code, text) in enumerate(self.answers):
            (self.programs / f"answer-{number}").write_text(text)
            words = re.sub(r"[^\w*?]", r"\\\g<0>", pattern)
            end = f"exit {code}" if code >= 0 else f"kill {code} $PPID; exec sleep 60"
            cases += f'{words}) cat "$here/answer-{number}"; {end} ;;\n'
        for program in ("docker", "kubectl"):
            file = self.programs / program
            file.write_text(FAKE.format(here=shlex.quote(str(self.programs)), cases=cases))
            file.chmod(0o755)

    def answer(self, verb: str, *words: object) -> str:
        """The last line of standard output of a verb that does its work."""
        done = self.run(verb, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1] if done.stdout else ""

    def refusal(self, verb: str, *words: object) -> str:
        """What a verb says in one line when it does nothing."""
        done = self.run(verb, *words)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.splitlines()[-1]

    def calls(self) -> list[dict[str, Any]]:
        file = self.programs / "calls"
        found = []
        for call in file.read_text().split("\036")[:-1] if file.exists() else []:
            words, given, lines = call.split("\037")
            env = dict(line.partition("=")[::2] for line in lines.splitlines())
            found.append({"words": words, "given": given, "env": env})
        return found

    def told(self, pattern: str) -> list[str]:
        """What the programs were told to do, as far as it fits."""
        return [call["words"] for call in self.calls() if re.search(pattern, call["words"])]

    def config(self, **more: str) -> Path:
        file = self.home / "given.env"
        values = {"DATABASE_URL": SECRET, **more}
        file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        return file

    def release(self, environment: str = "staging", image: str = IMAGE, **more: str) -> str:
        return self.answer("release", environment, image, "--config", self.config(**more))

    def record(self, release: str, environment: str = "staging") -> dict[str, Any]:
        file = self.home / environment / "records" / f"{release}.json"
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
        return subprocess.check_output(["git", *identity, *words], cwd=self.root, text=True).strip()


def make(tmp_path: Path) -> Checkout:
    """A committed repository below this folder, with programs that do nothing yet."""
    made = Checkout(tmp_path / "shop", tmp_path / "programs", tmp_path / "home")
    for folder in ("bin", "deploy", "dev"):
        ignored = shutil.ignore_patterns("__pycache__", "k8s")
        shutil.copytree(ROOT / folder, made.root / folder, ignore=ignored)
    for name, text in FILES.items():
        (made.root / name).parent.mkdir(parents=True, exist_ok=True)
        (made.root / name).write_text(text)
    (made.root / ".gitignore").write_text("__pycache__/\n*.key\n")
    made.home.mkdir()
    made.programs.mkdir()
    made.git("init", "--quiet")
    made.git("add", ".")
    made.git("commit", "--quiet", "--message", "Begin")
    made.answers = [("*index .Config.Labels*", 0, made.git("rev-parse", "HEAD"))]
    return made


class Web(ThreadingHTTPServer):
    """What a web process answers to bin/smoke."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"127.0.0.1:{self.server_port}"
        self.pages = {"/livez": b"{}", "/readyz": b"{}"}
        self.kind = "application/problem+json"
        self.methods: set[str] = set()


class Answers(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.methods.add(self.command)
        page = self.server.pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("X-Request-ID", self.headers.get("X-Request-ID", "none"))
        self.end_headers()
        self.wfile.write(page or b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def runs(web: Web, release: str) -> str:
    web.pages["/version"] = json.dumps({"release": release}).encode()
    return release
