"""What tests share: the environment of a process, and processes."""

import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from invoiceflow import resources
from invoiceflow.config import Settings

from dev import services
from tests.running import COMMANDS, Running, Start


def made(environment: dict[str, str]) -> Settings:
    """The settings that a process reads from this environment."""
    given = {name.lower(): value for name, value in environment.items() if value}
    return Settings.model_validate(given)


@pytest.fixture(scope="session")
def unattached() -> dict[str, str]:
    """The environment of a process whose services cannot be reached: enough for most tests."""
    return services.example() | services.nowhere()


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process on real services, in places made for this run, migrated."""
    with services.isolated(tmp_path_factory.mktemp("services"), services.given()) as urls:
        environment = services.example() | urls
        if "release" in COMMANDS:
            subprocess.run(COMMANDS["release"], env=environment, check=True)
        yield environment


@pytest.fixture
def settings(unattached: dict[str, str]) -> Settings:
    return made(unattached)


@pytest.fixture
async def attached(environment: dict[str, str]) -> AsyncIterator[Settings]:
    """The settings, with the services attached in this process."""
    settings = made(environment)
    async with resources.attach(settings):
        yield settings


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes of the Procfile; none outlives the test."""
    running: list[Running] = []

    def start(process: str, environment: dict[str, str]) -> Running:
        running.append(Running(process, environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
