"""The image of a service, built and run by a container engine."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import cases
import engine
import pytest
from conftest import tool
from render import Generate
from test_boot import SETS

# One process builds; where groups go unheeded, a lock lets one engine run at a time.
pytestmark = pytest.mark.xdist_group("image")

# What one more line makes of the image, and what is then said of it.
BROKEN = {
    "USER 0": "Image user 0 does not match",
    'ENTRYPOINT ["sh", "-c", "python -m invoiceflow"]': "Image config entrypoint",
    "WORKDIR /": "Image workdir",
    "LABEL org.opencontainers.image.revision=unknown": "label org.opencontainers.image.revision",
    "USER 0\nRUN touch /usr/local/bin/uv": "/usr/local/bin/uv should not exist",
    "USER 0\nRUN mkdir /src": "/src should not exist",
    "USER 0\nRUN chown 10001 /app/lib\nUSER 10001:10001": "nothing of the service can be written",
    "USER 0\nRUN rm $(python -c 'import argparse; print(argparse.__cached__)')": "is compiled",
    "USER 0\nRUN rm lib/python*/site-packages/invoiceflow/__main__.py": "each argument is",
}


@pytest.fixture(scope="module", autouse=True)
def engine_on() -> Iterator[None]:
    """An engine that answers to all that these tests start."""
    with engine.running() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def checkout(answers: dict[str, Any], generate: Generate, tmp_path: Path) -> Path:
    """The service of these answers, as its first commit."""
    folder = tmp_path / "service"
    shutil.copytree(generate(**answers).path, folder)
    run("uv", "lock", "--quiet", cwd=folder)
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    run("git", *identity, "commit", "--quiet", "--message", "Begin", cwd=folder)
    return folder


@pytest.fixture
def image(checkout: Path) -> Iterator[str]:
    """What bin/build makes of it."""
    made = run("bin/build", cwd=checkout).split()[-1]
    yield made
    run("docker", "image", "rm", "--force", made)


def run(*command: str, cwd: Path | None = None) -> str:
    path = f"{Path(tool('uv')).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


of_every_set = pytest.mark.parametrize("answers", SETS.values(), ids=SETS.keys())
of_the_defaults = pytest.mark.parametrize("answers", [cases.DEFAULTS], ids=["default"])


@of_every_set
def test_an_image_is_what_it_should_be(image: str) -> None:
    assert engine.structured(image) == []


@of_the_defaults
def test_an_image_that_is_not_is_seen(image: str, tmp_path: Path) -> None:
    built, changed = (f"test-{os.getpid()}:{what}" for what in ("built", "changed"))
    run("docker", "tag", image, built)  # FROM takes no id
    for line, wrong in BROKEN.items():
        (tmp_path / "Dockerfile").write_text(f"FROM {built}\n{line}\n")
        run("docker", "build", "--quiet", "--tag", changed, str(tmp_path))
        assert wrong in "\n".join(engine.structured(changed)), line
    run("docker", "image", "rm", "--force", built, changed)


@of_the_defaults
def test_the_kit_holds_on_the_image(checkout: Path) -> None:
    """Built beside settings that must not get in, and run read-only as nobody."""
    run("bin/setup", cwd=checkout)
    said = run("bin/conformance", "--image", "--only", "I-5", "II-5", "III-6", "V-8", cwd=checkout)
    assert "4 held · 0 bent · 0 broken" in said


@of_the_defaults
def test_compose_brings_up_every_process(checkout: Path, tmp_path: Path) -> None:
    """Backing services and processes, from the image, each healthy; on ports that are free."""
    free = {
        name: {"ports": [f"127.0.0.1::{port}"]}
        for name, port in {"web": 8000, "postgres": 5432}.items()
    }
    override = tmp_path / "override.yaml"
    services = json.dumps({"services": free}).replace("[", "!override [")
    override.write_text(services)
    compose = ["docker", "compose", "--file", "compose.yaml", "--file", str(override)]
    compose += ["--project-name", f"test-{os.getpid()}", "--profile", "app"]
    try:
        run(*compose, "up", "--build", "--wait", cwd=checkout)
        states = [
            json.loads(line)
            for line in run(*compose, "ps", "--format=json", cwd=checkout).splitlines()
        ]
        assert {one["Service"]: one["Health"] for one in states} == dict.fromkeys(
            ("web", "worker", "clock", "postgres"), "healthy"
        )
        address = run(*compose, "port", "web", "8000", cwd=checkout).strip()
        with urlopen(f"http://{address}/readyz") as answer:
            assert answer.status == 200
    finally:
        run(*compose, "down", "--volumes", "--rmi=local", "--timeout=1", cwd=checkout)
