"""Every process of the Procfile, as a platform runs it."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

from dev.__main__ import ONE_OFF
from dev.services import nowhere
from tests.running import COMMANDS, Start, free_port

STARTED = {
    "web": "web.listening",
    "worker": "worker.started",
    "relay": "relay.started",
    "clock": "worker.started",
}


@pytest.mark.parametrize("process", sorted(COMMANDS.keys() - ONE_OFF))
def test_it_starts_and_sigterm_ends_it_with_0(
    process: str, start: Start, environment: dict[str, str]
) -> None:
    running = start(process, environment | {"PORT": str(free_port())})
    running.event(STARTED[process])

    assert running.stop() == 0
    assert not running.other


@pytest.mark.parametrize("process", sorted(COMMANDS.keys() - ONE_OFF))
def test_it_starts_before_its_services_and_sigterm_ends_it_then_too(
    process: str, start: Start, unattached: dict[str, str]
) -> None:
    running = start(process, unattached | {"PORT": str(free_port())})
    running.event("resource.waiting" if nowhere() else "resources.reached")

    assert running.stop() == 0


def test_sigterm_before_it_has_begun_ends_it_with_0(unattached: dict[str, str]) -> None:
    process = min(COMMANDS.keys() - ONE_OFF)
    package = COMMANDS[process][-2]
    code = (
        "import os, signal, sys\n"
        f"from {package} import __main__, {process}\n"
        f"{process}.main = lambda _: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"sys.argv = ['', '{process}']\n"
        "__main__.main()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env=unattached).returncode == 0


def test_every_line_carries_the_process_the_release_and_the_commit(
    start: Start, environment: dict[str, str]
) -> None:
    process = min(COMMANDS.keys() - ONE_OFF)
    identity = {"RELEASE_ID": "r-1", "REVISION": "abc1234", "PORT": str(free_port())}
    running = start(process, environment | identity)
    running.event(STARTED[process])
    running.stop()

    said = {"process": process, "release": "r-1", "revision": "abc1234"}
    for event in running.events:
        assert said.items() <= event.items()
        assert {"ts", "level", "event"} <= event.keys()


def console(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = COMMANDS["console"]
    return subprocess.run(command, input=code, capture_output=True, env=environment, text=True)


def test_the_console_runs_what_it_is_given(environment: dict[str, str]) -> None:
    done = console(
        "resources = [value for value in list(globals().values()) if hasattr(value, 'ping')]\n"
        "print(settings.release_id, [run(resource.ping()) for resource in resources])",
        environment,
    )

    resources = import_module(f"{COMMANDS['console'][-2]}.parts").RESOURCES
    assert done.stdout == f"unreleased {[None] * len(resources)}\n"


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("import logging; logging.getLogger('library').warning('it says')", "it says"),
        ("import warnings; warnings.warn('it is old')", "it is old"),
        ("import structlog; structlog.get_logger().info('odd', value=object())", "odd"),
        (
            "from threading import Thread; one = Thread(target=lambda: 1 / 0); one.start()",
            "process.crashed",
        ),
    ],
    ids=["library", "warning", "object", "thread"],
)
def test_whoever_speaks_says_one_line_of_json(
    unattached: dict[str, str], code: str, event: str
) -> None:
    done = console(code, unattached)

    assert event in json.loads(done.stdout)["event"]
    assert not done.stderr


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 2), ("INFO", 1), ("WARNING", 0)])
def test_lines_below_the_level_are_held_back(
    unattached: dict[str, str], level: str, lines: int
) -> None:
    code = "import structlog; log = structlog.get_logger(); log.debug('one'); log.info('two')"
    done = console(code, unattached | {"LOG_LEVEL": level})

    assert done.stdout.count("two") + done.stdout.count("one") == lines


def test_a_crash_is_one_line_of_json(environment: dict[str, str]) -> None:
    done = console("1 / 0", environment)

    assert done.returncode == 1
    event = json.loads(done.stdout)
    assert event["event"] == "process.crashed"
    assert "ZeroDivisionError" in event["exception"]
    assert not done.stderr


@pytest.mark.parametrize("words", [[], ["wbe"], ["console", "now"]], ids=" ".join)
def test_an_unknown_process_type_names_those_there_are(
    unattached: dict[str, str], words: list[str]
) -> None:
    unknown = [*COMMANDS["console"][:-1], *words]
    done = subprocess.run(unknown, capture_output=True, env=unattached, text=True)

    assert done.returncode == 2
    assert all(process in json.loads(done.stdout)["hint"] for process in COMMANDS)
