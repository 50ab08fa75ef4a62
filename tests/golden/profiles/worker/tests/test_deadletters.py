"""What becomes a dead letter and what does not, and the command that lists and replays them."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from invoiceflow import queue, queue_redis, runner
from invoiceflow.config import Settings

from dev import services
from tests.queueing import dead, put, working
from tests.running import COMMANDS, until

seen: list[str] = []
gate = asyncio.Event()


@queue.job(attempts=2)
async def fails(word: str) -> None:
    seen.append(word)
    if not gate.is_set():
        raise RuntimeError("as long as the gate is shut")


@queue.job(attempts=1)
async def waits() -> None:
    seen.append("began")
    await gate.wait()
    seen.append("ended")


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    global gate
    seen.clear()
    gate = asyncio.Event()
    monkeypatch.setattr(runner, "later", lambda _: 0.1)


@pytest.fixture(scope="module")
def environment(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A place without the dead letters of other tests: here all are put back."""
    with services.isolated(tmp_path_factory.mktemp("services"), environment) as urls:
        if "release" in COMMANDS:
            subprocess.run(COMMANDS["release"], env=environment | urls, check=True)
        yield environment | urls


def deadletters(environment: dict[str, str], *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The command's exit code and what it prints."""
    command = [*COMMANDS["deadletters"], *words]
    done = subprocess.run(command, capture_output=True, env=environment, text=True)
    return done.returncode, list(map(json.loads, done.stdout.splitlines()))


async def test_the_command_lists_them_and_puts_back_some_or_all(
    attached: Settings, environment: dict[str, str]
) -> None:
    ids: list[str] = []

    async def buried() -> bool:
        return ids[-1] in await dead(attached)

    async with working(attached):
        for word in "ab":
            ids.append(await put(fails.once("same"), word))
            await until(buried)
    assert seen == ["a", "a", "b", "b"]

    code, lines = await asyncio.to_thread(deadletters, environment)
    letters = sorted((line for line in lines if "event" not in line), key=lambda line: line["id"])
    expected = [
        {"id": id, "job": fails.name, "arguments": {"word": word}}
        for id, word in zip(ids, "ab", strict=True)
    ]
    assert code == 0
    assert letters == sorted(expected, key=lambda line: str(line["id"]))

    code, lines = await asyncio.to_thread(deadletters, environment, "replay", ids[1], "none")
    assert code == 1
    replayed = {"event": "deadletters.replayed", "asked": 2, "replayed": 1}
    assert [line for line in lines if line.items() >= replayed.items()]
    assert await dead(attached) == {ids[0]: fails.name}
    async with working(attached):
        await until(buried)
    assert seen[4:] == ["b", "b"]

    code, _ = await asyncio.to_thread(deadletters, environment, "replay", "all")
    assert code == 0
    assert await dead(attached) == {}
    gate.set()
    async with working(attached):
        await until(lambda: sorted(seen[6:]) == ["a", "b"])


@pytest.mark.parametrize("words", [["list"], ["replay"], ["list", "1"], ["1"]], ids=" ".join)
def test_other_words_are_refused(unattached: dict[str, str], words: list[str]) -> None:
    code, lines = deadletters(unattached, *words)

    assert code == 2
    assert [line["event"] for line in lines] == ["deadletters.misunderstood"]
    assert "replay ID" in lines[0]["hint"]


async def test_a_job_that_this_release_does_not_know_is_kept_for_one_that_does(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.set()
    id = await put(fails, "newer")

    async def buried() -> bool:
        return id in await dead(attached)

    with monkeypatch.context() as older:
        older.delitem(runner.TASKS, fails.name)
        async with working(attached):
            await until(buried)
    assert await queue_redis.replay(attached, [id]) == 1
    async with working(attached):
        await until(lambda: seen == ["newer"])


async def test_a_job_that_a_stop_interrupted_has_not_failed(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "later", lambda _: 3600)
    await put(waits)
    async with working(attached.model_copy(update={"grace_seconds": 0.1})):
        await until(lambda: seen == ["began"])
    gate.set()
    async with working(attached):
        await until(lambda: seen == ["began", "began", "ended"])
