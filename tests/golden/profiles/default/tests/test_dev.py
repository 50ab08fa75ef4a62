import os
import socket
import subprocess
from pathlib import Path

import pytest

from dev import server, services
from tests.running import COMMANDS


def bin_dev(*command: str, environment: dict[str, str]) -> int:
    environment = environment | {"PATH": os.environ["PATH"]}
    return subprocess.run(["bin/dev", *command], cwd=services.ROOT, env=environment).returncode


def test_a_command_ends_as_it_ends_without_bin_dev(environment: dict[str, str]) -> None:
    assert bin_dev("sh", "-c", "exit 7", environment=environment) == 7


# Without a release process the first to fail is one of those that it would have made way for.
@pytest.mark.parametrize("command", [["true"]] if "release" in COMMANDS else [[]])
def test_a_process_that_fails_stops_what_would_follow(
    unattached: dict[str, str], command: list[str]
) -> None:
    assert bin_dev(*command, environment=unattached | {"LOG_LEVEL": "no such level"}) == 1


def test_the_environment_comes_before_dotenv_and_that_before_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env.example").write_text("# Three.\nONE=example\nTWO=example\nTHREE=example\n")
    (tmp_path / ".env").write_text("ONE=dotenv\nTWO='dotenv'\n")
    monkeypatch.setattr(services, "ROOT", tmp_path)
    monkeypatch.setenv("ONE", "environment")

    seen = services.example() | services.given()
    assert [seen[name] for name in ("ONE", "TWO", "THREE")] == ["environment", "dotenv", "example"]


def test_a_server_s_port_is_its_own_and_none_that_the_system_gives_to_connections() -> None:
    ports = [server.free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    with socket.create_server(("127.0.0.1", 0)) as given:
        assert max(ports) < given.getsockname()[1]


def test_a_server_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STOP_SECONDS", 0.1)
    deaf = ["sh", "-c", "trap '' TERM; echo; exec sleep 600"]
    log = tmp_path / "log"
    with server.running(deaf, log, lambda: log.stat().st_size > 0):
        pass
