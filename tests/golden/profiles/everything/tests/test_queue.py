"""The queue on a real database, with the worker in this process."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import procrastinate
import pytest
import structlog
from sqlalchemy import text
from structlog.testing import capture_logs

from invoiceflow import parts, postgres, queue, resources, worker
from invoiceflow.config import Settings

from tests.pipe import pipe
from tests.running import SECONDS, Start, until

seen: list[str] = []
context: list[object] = []
meeting = asyncio.Barrier(2)


@queue.job(attempts=3)
async def note(word: str) -> None:
    seen.append(word)
    context.append(structlog.contextvars.get_contextvars().get("request_id"))


@queue.job(attempts=3)
async def stumble(word: str) -> None:
    seen.append(word)
    if seen.count(word) < 2:
        raise RuntimeError("once")


@queue.job(attempts=1)
async def never_ends() -> None:
    seen.append("began")
    await asyncio.Event().wait()


@queue.job()
async def meets() -> None:
    await meeting.wait()


@queue.job(attempts=2)
async def fails() -> None:
    raise RuntimeError("always")


@queue.job(attempts=1, seconds=0.1)
async def takes_too_long() -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    global meeting
    seen.clear()
    context.clear()
    meeting = asyncio.Barrier(2)  # it belongs to the loop of the first that waits


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[asyncio.Event]:
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(queue.serve(settings, [], stopping))
        try:
            yield stopping
        finally:
            stopping.set()


async def rescue() -> int:
    """Put the search for dead workers on the queue, as each minute does."""
    async with postgres.transaction() as session:
        connection = await (await session.connection()).get_raw_connection()
        driver = connection.driver_connection
        return await queue.rescue.configure(connection=driver).defer_async(timestamp=0)


async def rows(query: str, **values: object) -> list[str]:
    async with postgres.transaction() as session:
        return [str(row) for row in await session.scalars(text(query), values)]


async def gone(number: int) -> bool:
    return not await rows("select id from procrastinate_jobs where id = :id", id=number)


async def test_a_job_comes_with_the_transaction_that_asks_for_it(attached: Settings) -> None:
    async with working(attached):
        with suppress(KeyError):
            async with postgres.transaction() as session:
                await note.enqueue(session, "rolled back")
                raise KeyError
        async with postgres.transaction() as session:
            number = await note.enqueue(session, word="committed")
        await until(lambda: gone(number))

    assert seen == ["committed"]


async def test_the_request_id_travels_with_the_job(attached: Settings) -> None:
    async with working(attached), postgres.transaction() as session:
        with structlog.contextvars.bound_contextvars(request_id="r-1"):
            await note.enqueue(session, "traced")
    async with working(attached):
        await until(lambda: bool(seen))

    assert context == ["r-1"]


async def test_arguments_that_do_not_fit_are_refused_when_enqueued(attached: Settings) -> None:
    async with postgres.transaction() as session:
        with pytest.raises(TypeError):
            await note.enqueue(session, "one", "two")  # type: ignore[call-arg]


async def test_jobs_run_beside_each_other(attached: Settings) -> None:
    async with postgres.transaction() as session:
        one, other = await meets.enqueue(session), await meets.enqueue(session)
    async with working(attached):
        await until(lambda: gone(one))
        await until(lambda: gone(other))


async def test_an_error_is_tried_again(attached: Settings) -> None:
    async with postgres.transaction() as session:
        await stumble.enqueue(session, "twice")
    async with working(attached):
        await until(lambda: seen == ["twice", "twice"])


@pytest.mark.parametrize(("job", "attempts"), [(fails, "2"), (takes_too_long, "1")])
async def test_a_job_that_never_succeeds_is_kept_for_inspection(
    attached: Settings, job: queue.Job[[]], attempts: str
) -> None:
    async with postgres.transaction() as session:
        number = await job.enqueue(session)
    query = "select attempts from procrastinate_jobs where id = :id and status = 'failed'"
    with capture_logs() as lines:
        async with working(attached):
            await until(lambda: rows(query, id=number))

    assert await rows(query, id=number) == [attempts]
    failures = [line for line in lines if line["event"] == "job.failed"]
    assert [line["exc_info"] for line in failures] == [True]


async def test_a_worker_that_stops_finishes_its_job_within_the_grace(
    attached: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with postgres.transaction() as session:
        one, other = await meets.enqueue(session), await meets.enqueue(session)
    async with working(attached.model_copy(update={"worker_concurrency": 1})) as stopping:
        await until(lambda: meeting.n_waiting == 1)
        with caplog.at_level(logging.INFO, "procrastinate.worker"):
            stopping.set()
            await until(lambda: "Waiting for job to finish" in caplog.text)
        await asyncio.wait_for(meeting.wait(), SECONDS)

    query = "select id from procrastinate_jobs where id in (:one, :other)"
    assert await rows(query, one=one, other=other) == [str(other)]
    await rows("delete from procrastinate_jobs where id = :id returning id", id=other)


async def test_a_worker_that_stops_gives_its_job_back(attached: Settings) -> None:
    async with postgres.transaction() as session:
        number = await never_ends.enqueue(session)
    async with working(attached.model_copy(update={"grace_seconds": 0.1})):
        await until(lambda: seen == ["began"])

    query = "select status from procrastinate_jobs where id = :id"
    assert await rows(query, id=number) == ["todo"]
    await rows("delete from procrastinate_jobs where id = :id returning id", id=number)


@pytest.mark.parametrize(("attempts", "status"), [(0, "todo-1"), (2, "failed0")])
async def test_the_job_of_a_dead_worker_is_given_to_others_but_not_for_ever(
    attached: Settings, attempts: int, status: str
) -> None:
    async with postgres.transaction() as session:
        number = await note.enqueue(session, "left behind")
    await rows(
        "update procrastinate_jobs set status = 'doing', attempts = :attempts,"
        " worker_id = null where id = :id returning id",
        id=number,
        attempts=attempts,
    )
    await rescue()
    # Behind its neighbours, lest it end the next worker before they are done.
    query = (
        "select concat(status, priority) from procrastinate_jobs"
        " where id = :id and status <> 'doing'"
    )
    async with working(attached):
        await until(lambda: rows(query, id=number))

    assert await rows(query, id=number) == [status]
    await rows("delete from procrastinate_jobs where id = :id returning id", id=number)


async def test_the_job_of_a_living_worker_is_left_to_it(attached: Settings) -> None:
    async with postgres.transaction() as session:
        number = await never_ends.enqueue(session)
    async with working(attached.model_copy(update={"grace_seconds": 0.1})):
        await until(lambda: seen == ["began"])
        searching = await rescue()
        query = "select status from procrastinate_jobs where id = :id"
        await until(lambda: gone(searching))
        assert await rows(query, id=number) == ["doing"]
    await rows("delete from procrastinate_jobs where id = :id returning id", id=number)


async def test_an_outage_ends_without_a_restart(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = partial(procrastinate.PsycopgConnector, timeout=0.5)
    monkeypatch.setattr(procrastinate, "PsycopgConnector", impatient)
    async with pipe(attached.database_url.get_secret_value()) as between:
        values = attached.model_dump() | {"database_url": between.url}
        async with working(Settings(**values)):
            async with postgres.transaction() as session:
                before = await note.enqueue(session, "before")
            await until(lambda: gone(before))
            with capture_logs() as lines:
                await between.cut()
                await until(lambda: "worker.interrupted" in {line["event"] for line in lines})
            async with postgres.transaction() as session:
                await note.enqueue(session, "after")
            await between.open()
            await until(lambda: "after" in seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_ends_in_time_though_its_database_hangs(
    attached: Settings, environment: dict[str, str], start: Start, number: signal.Signals
) -> None:
    async with pipe(environment["DATABASE_URL"]) as between:
        process = start("worker", environment | {"DATABASE_URL": between.url, "GRACE_SECONDS": "1"})
        await asyncio.to_thread(process.event, "worker.started")
        between.hang()
        process.signal(number)
        code = await asyncio.to_thread(process.exit_code, 1 + queue.STOP_SECONDS + 10)

    assert code == 1
    process.event("worker.killed")


def test_a_worker_imports_the_jobs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "work", lambda *_, **__: 0)
    monkeypatch.setattr(parts, "JOBS", ["made_up"])

    with pytest.raises(ModuleNotFoundError, match="made_up"):
        worker.main(settings)


def test_the_jobs_of_dead_workers_are_looked_for() -> None:
    assert "queue.rescue" in {name for name, _ in queue.app.periodic_registry.periodic_tasks}


def test_every_job_of_the_service_has_a_name_of_its_own() -> None:
    modules = resources.load(parts.JOBS)
    jobs = [value for module in modules for value in vars(module).values()]
    names = [job.task.name for job in jobs if isinstance(job, queue.Job)]
    assert note.task.name == "test_queue.note"  # what waits on the queue outlives a release
    assert len(names) == len(set(names))
