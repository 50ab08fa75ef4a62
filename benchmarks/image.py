"""What the image weighs, how long a build takes, and what its first process costs to start."""

import os
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from dev.server import free_port

from .service import ENVIRONMENT, PACKAGE, Row, environment, folder, ready, run
from .story import status, until

STARTS = 5
MB = 1_000_000
TICK = os.sysconf("SC_CLK_TCK")
NAMES = re.compile(r"^(\w+)=", re.MULTILINE)  # of variables, in .env.example
# What made a layer, as `docker history` has it, and what it holds.
PARTS = {
    "UV_PROJECT": "the service",
    "COPY /app": "its packages",
    "sysconfig": "the standard library's bytecode",
}


def image() -> Iterator[Row]:
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        sys.exit("No container engine answers: start one, then try again.")
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with folder() as place:
        service = ready(place)
        build = ("docker", "build", "--quiet", "--tag", name, str(service))
        try:
            yield "An image, without a layer from before", "", seconds(*build, "--no-cache")
            yield "The same again", "", seconds(*build)
            routes = service / f"src/{PACKAGE}/routes.py"
            routes.write_text(f"{routes.read_text()}# {name}\n")  # as no build before had it
            yield "After a change of one line of code", "", seconds(*build)
            yield "Its size, in MB", "", size(name)
            example = (service / ".env.example").read_text()
            with environment(service) as variables:
                used = statistics.median(started(name, example, variables) for _ in range(STARTS))
            yield "Its web process, started to ready", "1 CPU-s", f"{used:.2f} CPU-s"
        finally:
            subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True)


def seconds(*command: str) -> str:
    began = time.monotonic()
    run(*command, env=ENVIRONMENT | {"DOCKER_BUILDKIT": "1"})
    return f"{time.monotonic() - began:.1f} s"


def size(name: str) -> str:
    """The whole, and what each part of it weighs."""
    form = "{{.Size}} {{.CreatedBy}}"
    lines = run("docker", "history", "--no-trunc", "--human=false", f"--format={form}", name)
    layers = [line.split(" ", 1) for line in lines.splitlines()]
    parts = {
        what: next(int(weight) for weight, made in layers if sign in made)
        for sign, what in PARTS.items()
    }
    whole = sum(int(weight) for weight, _ in layers)
    parts["the base image"] = whole - sum(parts.values())
    said = ", ".join(f"{weight / MB:.1f} {what}" for what, weight in parts.items())
    return f"{whole / MB:.0f}: {said}"


def started(name: str, example: str, variables: dict[str, str]) -> float:
    """CPU-seconds of a web process of the image until it is ready."""
    port = free_port()
    given = {one: variables[one] for one in NAMES.findall(example)} | {"PORT": str(port)}
    options = [f"--env={one}={value}" for one, value in given.items()]
    host = ("--detach", "--rm", "--network=host", "--read-only", "--tmpfs=/tmp")
    container = run("docker", "run", *host, *options, name, "web").strip()
    try:
        until("a web process", lambda: status(f"127.0.0.1:{port}", "/readyz") == 200)
        pid = run("docker", "inspect", "--format={{.State.Pid}}", container).strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    finally:
        run("docker", "rm", "--force", container)
