"""Generated services as their owners use them: set up, checked, started, stopped."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cases import name, pairwise
from conftest import tool
from dev.server import free_port
from render import Generate

BEGUN = {
    "web": "^Ready: ",
    "worker": '"worker.started".*"process":"worker"',
    "clock": '"worker.started".*"process":"clock"',
    "relay": '"relay.started"',
}
# What a service is made of: where its pipeline and its cluster are changes none of its processes.
MADE_OF = ("flavor", "services", "broker", "scheduler", "example")
SETS = {name(answers): answers for answers in pairwise(MADE_OF)}


def environment(home: Path) -> dict[str, str]:
    """That of a machine with Python, git and uv, and nothing set up yet."""
    home.mkdir()
    keep = {key: value for key, value in os.environ.items() if "CERT" in key}
    # Packages may come from uv's cache: what is tested here is not the network.
    cache = subprocess.check_output([tool("uv"), "cache", "dir"], text=True).strip()
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    return keep | {"HOME": str(home), "PATH": path, "UV_CACHE_DIR": cache}


def run(command: str, cwd: Path, env: dict[str, str]) -> str:
    with subprocess.Popen(
        [command],
        cwd=cwd,
        env=env,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            said, _ = running.communicate(timeout=900)
        except subprocess.TimeoutExpired:  # a hang is a failure too, and Python says where it is
            os.killpg(running.pid, signal.SIGINT)
            try:
                said, _ = running.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                said, _ = running.communicate()
    assert running.returncode == 0, said
    return said


def processes(service: Path) -> list[str]:
    return [line.partition(":")[0] for line in (service / "Procfile").read_text().splitlines()]


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.parametrize("answers", SETS.values(), ids=SETS.keys())
def test_a_service_passes_its_own_checks_and_leaves_no_process_behind(
    answers: dict[str, Any], generate: Generate, tmp_path: Path
) -> None:
    service = tmp_path / "service"
    shutil.copytree(generate(**answers).path, service)
    env = environment(tmp_path / "home")
    run("bin/setup", service, env)
    run("bin/setup", service, env)
    assert " passed" in run("bin/ci", service, env)

    development = subprocess.Popen(
        ["bin/dev"],
        cwd=service,
        env=env | {"PORT": str(free_port())},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert development.stdout
    waiting = {process: BEGUN[process] for process in processes(service) if process in BEGUN}
    said = []
    for line in development.stdout:
        said.append(line)
        waiting = {process: sign for process, sign in waiting.items() if not re.search(sign, line)}
        if not waiting:
            break
    assert not waiting, "".join(said)

    os.killpg(development.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    rest, _ = development.communicate(timeout=60)
    assert development.returncode == 130, rest
    started = re.findall(r"^dev +\| (\w+) started", "".join(said), re.MULTILINE)
    assert sorted(started) == sorted(process for process in processes(service) if process in BEGUN)
    for process in started:
        assert f"| {process} ended with 0\n" in rest, rest
    assert processes_of(service) == []
