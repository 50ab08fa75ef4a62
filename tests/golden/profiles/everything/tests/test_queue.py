"""The queue on a real broker, with the worker in this process or in one of its own."""

import asyncio
import signal

import pytest
import structlog
from structlog.testing import capture_logs

from invoiceflow import parts, queue, queue_rabbitmq, resources, runner, worker
from invoiceflow.config import Settings

from tests import crashing
from tests.pipe import pipe
from tests.queueing import URL, dead, empty, put, working
from tests.running import COMMANDS, Running, Start, until

seen: list[str] = []
context: list[object] = []
meeting = asyncio.Barrier(2)
gate = asyncio.Event()


@queue.job(attempts=3)
async def note(word: str) -> None:
    seen.append(word)
    bound = structlog.contextvars.get_contextvars()
    context.append((bound.get("request_id"), bound.get("traceparent")))


@queue.job(attempts=3)
async def stumble(word: str) -> None:
    seen.append(word)
    if seen.count(word) < 2:
        raise RuntimeError("once")


@queue.job()
async def waits(word: str) -> None:
    seen.append(f"{word} began")
    await gate.wait()
    seen.append(f"{word} ended")


@queue.job()
async def meets() -> None:
    await meeting.wait()
    seen.append("met")


@queue.job(attempts=2)
async def fails() -> None:
    seen.append("failing")
    if not gate.is_set():
        raise RuntimeError("as long as the gate is shut")


@queue.job(attempts=1, seconds=0.1)
async def takes_too_long() -> None:
    await gate.wait()


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    global meeting, gate
    seen.clear()
    context.clear()
    # They belong to the loop of the first that waits.
    meeting, gate = asyncio.Barrier(2), asyncio.Event()
    monkeypatch.setattr(runner, "later", lambda _: 0.1)


async def test_the_ids_of_a_request_travel_with_its_jobs(attached: Settings) -> None:
    ids = {"request_id": "r-1", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    with structlog.contextvars.bound_contextvars(**ids, user="not this"):
        await put(note, "traced")
    async with working(attached):
        await until(lambda: seen)

    assert context == [tuple(ids.values())]


async def test_arguments_that_do_not_fit_are_refused_when_enqueued(attached: Settings) -> None:
    with pytest.raises(TypeError):
        await put(note, "one", "two")


async def test_jobs_run_beside_each_other(attached: Settings) -> None:
    await put(meets)
    await put(meets)
    async with working(attached):
        await until(lambda: seen == ["met", "met"])


async def test_only_one_waits_under_a_key(attached: Settings) -> None:
    assert await put(note.once("a"), "first") != "None"
    assert await put(note.once("a"), "second") == "None"
    assert await put(note.once("b"), "other") != "None"
    async with working(attached):
        await until(lambda: len(seen) == 2)
        assert await put(note.once("a"), "third") != "None"
        await until(lambda: len(seen) == 3)

    assert sorted(seen) == ["first", "other", "third"]


async def test_an_error_is_tried_again(attached: Settings) -> None:
    await put(stumble, "twice")
    async with working(attached):
        await until(lambda: seen == ["twice", "twice"])


@pytest.mark.parametrize("job", [fails, takes_too_long])
async def test_a_job_that_never_succeeds_becomes_a_dead_letter(
    attached: Settings, job: queue.Job[[]]
) -> None:
    id = await put(job)
    with capture_logs() as lines:
        async with working(attached):

            async def buried() -> bool:
                return id in await dead(attached)

            await until(buried)

            failures = [line for line in lines if line["event"] == "job.failed"]
            assert [line["exc_info"] for line in failures] == [True]
            assert seen.count("failing") == (2 if job is fails else 0)
            assert (await dead(attached))[id] == job.name

            gate.set()
            assert await queue_rabbitmq.replay(attached, [id]) == 1
            await until(lambda: "job.done" in {line["event"] for line in lines})

    assert id not in await dead(attached)
    assert await queue_rabbitmq.replay(attached, [id]) == 0


async def test_a_worker_that_stops_finishes_its_job_within_the_grace(attached: Settings) -> None:
    await put(waits, "one")
    await put(waits, "other")
    async with working(attached.model_copy(update={"worker_concurrency": 1})) as stopping:
        await until(lambda: seen)
        stopping.set()
        gate.set()
    assert seen == ["one began", "one ended"]

    async with working(attached):
        await until(lambda: seen[2:] == ["other began", "other ended"])


async def test_a_worker_that_stops_gives_its_job_back(attached: Settings) -> None:
    await put(waits, "it")
    with capture_logs() as lines:
        async with working(attached.model_copy(update={"grace_seconds": 0.1})):
            await until(lambda: seen)
    assert "job.returned" in {line["event"] for line in lines}
    assert not await empty(attached)

    gate.set()
    async with working(attached):
        await until(lambda: seen == ["it began", "it began", "it ended"])
    assert await empty(attached)


async def test_a_job_that_kills_its_worker_ends_and_its_neighbours_are_done(
    attached: Settings, environment: dict[str, str], start: Start
) -> None:
    own = environment | {"WORKER_STALLED_SECONDS": "1"}
    if "relay" in COMMANDS:
        start("relay", own)
    poisonous = await put(crashing.poison)
    good = {await put(crashing.note, word) for word in "abcde"}
    deaths = 0
    done: set[str] = set()

    async def over() -> bool:
        # A good job whose worker was killed before it could say so waits once more.
        return poisonous in await dead(attached) and done >= good and await empty(attached)

    while not await over():
        process = start("tests.crashing", own)

        async def ended(process: Running = process) -> bool:
            done.update(one["job_id"] for one in process.events if one["event"] == "job.done")
            return process.code is not None or await over()

        await until(ended)
        deaths += process.code is not None
        if process.code is None:
            process.stop()

    assert deaths == 3
    assert await queue_rabbitmq.replay(attached, []) == 0


async def test_an_outage_ends_without_a_restart(
    attached: Settings, environment: dict[str, str], start: Start
) -> None:
    async with pipe(environment[URL]) as between:
        await between.cut()
        if "relay" in COMMANDS:
            start("relay", environment | {URL: between.url})
        process = start("tests.crashing", environment | {URL: between.url})
        await asyncio.to_thread(process.event, "resource.waiting")
        await between.open()
        before = await put(crashing.note, "before")
        await asyncio.to_thread(process.event, "job.done", job_id=before)
        await between.cut()
        meanwhile = await put(crashing.note, "meanwhile")
        await between.open()
        await asyncio.to_thread(process.event, "job.done", job_id=meanwhile)
        between.hang()
        hung = await put(crashing.note, "hung")
        await between.holding.wait()
        await between.cut()
        between.flow()
        await between.open()
        await asyncio.to_thread(process.event, "job.done", job_id=hung)

        # What was done and could not be acknowledged comes once more.
        await until(lambda: empty(attached))
        assert await asyncio.to_thread(process.stop) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_ends_in_time_though_its_broker_hangs(
    attached: Settings, environment: dict[str, str], start: Start, number: signal.Signals
) -> None:
    async with pipe(environment[URL]) as between:
        process = start("worker", environment | {URL: between.url, "GRACE_SECONDS": "1"})
        await asyncio.to_thread(process.event, "worker.started")
        between.hang()
        await between.holding.wait()
        process.signal(number)
        code = await asyncio.to_thread(process.exit_code, 1 + queue.STOP_SECONDS + 10)

    process.event("worker.killed" if code else "worker.stopped")


def test_a_worker_imports_the_jobs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "work", lambda *_, **__: 0)
    monkeypatch.setattr(parts, "JOBS", ["made_up"])

    with pytest.raises(ModuleNotFoundError, match="made_up"):
        worker.main(settings)


def test_every_job_has_a_name_of_its_own() -> None:
    resources.load(parts.JOBS)
    assert note.name == "test_queue.note"  # what waits on the queue outlives a release

    with pytest.raises(ValueError, match="two jobs are called test_queue"):
        queue.job()(note.function)
