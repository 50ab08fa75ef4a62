"""What a worker does besides its jobs: it gives signs of life, and waits before it tries again."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from invoiceflow import heartbeat, runner
from invoiceflow.config import Settings

from tests.running import Start, until


def test_each_wait_is_longer_up_to_a_limit_and_they_spread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    assert [runner.later(attempts) for attempts in (0, 1, 3, 1000)] == [0.5, 1, 4, 300]
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    assert [runner.later(attempts) for attempts in (0, 1, 3, 1000)] == [1.5, 3, 12, 900]


async def note() -> None:
    pass


async def other() -> None:
    pass


def test_two_jobs_may_wait_under_the_same_word() -> None:
    keys = {runner.Task(function, 1, 1).once("same").key for function in (note, other)}
    assert keys == {"test_worker.note same", "test_worker.other same"}


async def test_the_file_is_touched_while_the_loop_turns(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.001)
    file = tmp_path / "alive"
    async with heartbeat.beating(settings.model_copy(update={"heartbeat_file": str(file)})):
        await until(file.exists)
        file.unlink()
        time.sleep(0.1)  # noqa: ASYNC251  # the loop is held up, as a job that blocks would do
        assert not file.exists()
        await until(file.exists)
    await until(lambda: len(asyncio.all_tasks()) == 1)


async def test_without_a_file_nothing_is_touched(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[Path] = []
    monkeypatch.setattr(Path, "touch", lambda file: touched.append(file))
    async with heartbeat.beating(settings):
        await until(lambda: len(asyncio.all_tasks()) == 1)
    assert touched == []


def test_a_worker_touches_its_file(
    environment: dict[str, str], start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "alive"
    start("worker", environment | {"HEARTBEAT_FILE": str(file)}).event("worker.started")
    assert file.exists()
