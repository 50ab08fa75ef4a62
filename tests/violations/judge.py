"""Judges the kit: a violation must pass the smoke test, and break a check of its factor."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from render import ROOT, render

from .violation import Violation

CACHE = ROOT / ".cache" / "violations"
KEPT = (".venv", ".dev")  # by a service that is rendered anew
LEFT = shutil.ignore_patterns(*KEPT, ".git", ".mypy_cache", ".ruff_cache")
KIT_SECONDS = 900
ELF = b"\x7fELF"
IMAGE_CHECKS = {"I-5", "II-5", "III-6", "V-8"}
SERVE = """
import json, sys
from dev.services import ROOT, started
with started(ROOT / ".dev", {}) as urls:
    print(json.dumps(urls), flush=True)
    sys.stdin.read()
"""

# Void services mostly make the kit wait: it may wait for all at once.
WIDE = (
    ".venv/bin/python -c import sys; from tests.conformance import __main__ as kit; "
    "kit.AT_ONCE = 50; sys.exit(kit.main(sys.argv[1:]))"
)
VOIDS = {
    "exits at once": "",
    "hangs": """
import sys, time
time.sleep(0 if sys.argv[1] == "release" else 3600)
""",
    "answers 200 to everything": """
import http.server, json, os, sys, time
class Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = json.dumps({name: os.environ.get(name) for name in ("REVISION", "RELEASE_ID")})
        self.send_response(200)
        self.send_header("X-Request-ID", self.headers.get("X-Request-ID", "1"))
        self.end_headers()
        self.wfile.write(said.encode())
        event = {"ts": "now", "level": "info", "event": "request", **json.loads(said)}
        print(json.dumps(event), flush=True)
    do_POST = do_GET
    def log_message(self, *words):
        pass
if sys.argv[1] == "web":
    http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Yes).serve_forever()
time.sleep(0 if sys.argv[1] == "release" else 3600)
""",
}

Checks = dict[str, dict[str, Any]]


class Unjudged(Exception):
    """The kit itself failed."""


@dataclass(frozen=True)
class Service:
    """A service that is set up, and the servers that its copies share."""

    path: Path
    urls: Mapping[str, str]


@dataclass
class Verdict:
    """What became of a violation."""

    violation: Violation
    smoke: str = ""  # what went wrong in the smoke test
    checks: Checks = field(default_factory=dict)
    fault: str = ""  # why there is no verdict
    seconds: float = 0

    @property
    def broken(self) -> list[str]:
        return [id for id, check in self.checks.items() if check["verdict"] == "broken"]

    @property
    def killed(self) -> bool:
        """A check in the row of its factor broke, and the laptop had seen nothing."""
        row = [id for id in self.broken if id.partition("-")[0] == self.violation.factor]
        return bool(row) and not self.smoke and not self.fault


def prepare(answers: Mapping[str, object], places: Path = CACHE) -> Path:
    """A service of these answers, set up and committed; what was installed before stays."""
    name = "-".join(f"{key}-{answers[key]}" for key in sorted(answers)) or "default"
    place = places / "".join(one for one in name if one.isalnum() or one == "-")
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=places) as folder:
        fresh = render(dict(answers), Path(folder) / "service")
        for kept in KEPT:
            if (place / kept).exists():
                (place / kept).rename(fresh / kept)
        shutil.rmtree(place)
        fresh.rename(place)
    run(["bin/setup"], place)
    run([".venv/bin/python", "-m", "compileall", "-q", "src", "tests", "dev"], place)
    run(["git", "init", "--quiet", "--initial-branch=main"], place)
    commit(place, "Start from the template")
    return place


def commit(service: Path, message: str) -> None:
    person = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    run(["git", "add", "--all"], service)
    run(["git", *person, "commit", "--quiet", "--allow-empty", "--message", message], service)


@contextmanager
def serving(service: Path) -> Iterator[Service]:
    """Run the backing services of a service until the block ends."""
    with subprocess.Popen(
        [".venv/bin/python", "-c", SERVE],
        cwd=service,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as servers:
        assert servers.stdin
        assert servers.stdout
        urls = json.loads(servers.stdout.readline())
        try:
            yield Service(service, urls)
        finally:
            servers.stdin.close()


@contextmanager
def copied(service: Path) -> Iterator[Path]:
    """A copy of a service that imports itself, with the packages of the original."""
    with tempfile.TemporaryDirectory(prefix="violation-") as folder:
        copy = Path(folder) / service.name
        shutil.copytree(service, copy, ignore=LEFT)
        original = service / ".venv"
        (packages,) = original.glob("lib/python*/site-packages")
        own = copy / packages.relative_to(service)
        own.mkdir(parents=True)
        (own / "service.pth").write_text(f"{copy / 'src'}\n{packages}\n")
        (copy / ".venv" / "bin").mkdir()
        (copy / ".venv/bin/python").symlink_to((original / "bin/python").resolve())
        # Servers come as programs of packages; scripts would import the original.
        for program in (original / "bin").iterdir():
            with program.open("rb") as file:
                if file.read(4) == ELF and not program.is_symlink():
                    (copy / ".venv/bin" / program.name).symlink_to(program)
        shutil.copy(original / "pyvenv.cfg", copy / ".venv")
        shutil.copytree(service / ".git", copy / ".git")
        yield copy


def judge(violation: Violation, service: Service, quick: bool = False) -> Verdict:
    """Apply a violation to a copy of the service; try it as on a laptop, then by the kit.

    quick: the check that must break comes first, the others of its factor only if it does not.
    """
    verdict = Verdict(violation)
    began = time.monotonic()
    with copied(service.path) as copy:
        violation.apply(copy, service.urls)
        commit(copy, violation.stands_for)
        laptop = {**service.urls, **violation.laptop}
        # Once more, lest somebody else took the port meanwhile.
        verdict.smoke = smoke(copy, laptop) and smoke(copy, laptop)
        if not verdict.smoke:
            run(["git", "clean", "--quiet", "--force", "-d"], copy)  # what the laptop wrote
            run(["git", "checkout", "--quiet", "."], copy)
            try:
                of_image = violation.killed_by in IMAGE_CHECKS
                for only in ([violation.killed_by] if quick else []) + [violation.factor]:
                    if not verdict.broken:
                        verdict.checks = conformance(copy, service.urls, [only], image=of_image)
            except Unjudged as fault:
                verdict.fault = str(fault)
    verdict.seconds = time.monotonic() - began
    return verdict


def void(name: str, service: Service) -> list[str]:
    """The checks of processes that pass on a service that is none."""
    with copied(service.path) as copy:
        (main,) = copy.glob("src/*/__main__.py")
        main.write_text(VOIDS[name])
        commit(copy, name)
        checks = conformance(copy, service.urls, [], WIDE)
    live = {id: one for id, one in checks.items() if one["kind"] == "processes"}
    return [id for id, one in live.items() if one["verdict"] == "held"]


def smoke(service: Path, variables: Mapping[str, str]) -> str:
    """Nothing, or what went wrong when the story was told on a laptop."""
    command = [".venv/bin/python", str(Path(__file__).with_name("smoke.py"))]
    code, said = patient(command, service, {**variables, "PYTHONPATH": str(service)}, 180)
    return said[-3000:] or f"exit code {code}" if code else ""


def conformance(
    service: Path,
    variables: Mapping[str, str],
    only: list[str],
    command: str = "bin/conformance",
    image: bool = False,
) -> Checks:
    """What the kit says of each check; image: of those that build one, too."""
    report = service / "conformance" / "conformance.json"
    report.unlink(missing_ok=True)
    words = [*command.split(maxsplit=2), "--no-bends", *(["--only", *only] if only else [])]
    words += ["--image"] if image else []
    code, said = patient(words, service, variables, KIT_SECONDS)
    if code not in (0, 1) or not report.exists():
        raise Unjudged(said[-3000:] or f"bin/conformance ended with {code}")
    return {one["id"]: one for one in json.loads(report.read_text())["checks"]}


def patient(
    command: list[str], cwd: Path, variables: Mapping[str, str], seconds: float
) -> tuple[int, str]:
    """The exit code and the output; after so many seconds it is interrupted, and may clean up."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment() | dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                said, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
        return process.returncode, said


def run(command: list[str], cwd: Path) -> None:
    code, said = patient(command, cwd, {}, KIT_SECONDS)
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{said}")


def environment() -> dict[str, str]:
    """That of a developer, without what belongs to this repository or to a pipeline.

    With CI set, bin/setup refuses the lock that `uv sync` has yet to complete.
    """
    ours = ("CI", "PYTHON", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "PYTEST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # The kit looks for uv; the one of this repository is beside its interpreter.
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
