import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from invoiceflow import parts, resources
from invoiceflow.config import Settings


def test_every_part_is_a_module_that_imports() -> None:
    lists = {name: value for name, value in vars(parts).items() if name.isupper()}

    for names in lists.values():
        assert len(resources.load(names)) == len(names)


def test_every_resource_can_be_connected_and_pinged() -> None:
    for resource in resources.load(parts.RESOURCES):
        assert callable(resource.connect)
        assert callable(resource.ping)


async def test_a_resource_that_hangs_when_it_closes_does_not_hold_the_process(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hung:
        @staticmethod
        @asynccontextmanager
        async def connect(_: Settings) -> AsyncIterator[None]:
            yield
            await asyncio.Event().wait()

    monkeypatch.setattr(resources, "load", lambda _: [Hung])
    monkeypatch.setattr(resources, "CLOSE_SECONDS", 0.01)
    with capture_logs() as lines:
        async with asyncio.timeout(30), resources.attach(settings):
            pass

    assert [line["event"] for line in lines] == ["resources.close_failed"]
