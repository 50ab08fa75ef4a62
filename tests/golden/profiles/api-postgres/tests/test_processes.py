"""Every process of the Procfile, as a platform runs it."""

import json
import subprocess

import pytest

from dev.services import example
from tests.running import COMMANDS, Start, free_port

ONE_OFF = {"release", "console"}
STARTED = {"web": "web.listening", "worker": "worker.started", "clock": "worker.started"}


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
    running.event("resource.waiting" if "DATABASE_URL" in example() else "resources.reached")

    assert running.stop() == 0


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


def test_the_console_runs_what_it_is_given(environment: dict[str, str]) -> None:
    done = subprocess.run(
        COMMANDS["console"],
        input="print(settings.release_id)",
        capture_output=True,
        check=True,
        env=environment,
        text=True,
    )

    assert done.stdout == "unreleased\n"


def test_a_crash_is_one_line_of_json(environment: dict[str, str]) -> None:
    done = subprocess.run(
        COMMANDS["console"], input="1 / 0", capture_output=True, env=environment, text=True
    )

    assert done.returncode == 1
    event = json.loads(done.stdout)
    assert event["event"] == "process.crashed"
    assert "ZeroDivisionError" in event["exception"]
    assert not done.stderr


def test_an_unknown_process_type_names_those_there_are(environment: dict[str, str]) -> None:
    unknown = [*COMMANDS["console"][:-1], "wbe"]
    done = subprocess.run(unknown, capture_output=True, env=environment, text=True)

    assert done.returncode == 2
    assert all(process in json.loads(done.stdout)["hint"] for process in COMMANDS)
