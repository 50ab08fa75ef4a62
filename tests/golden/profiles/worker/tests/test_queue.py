"""The queue on a real database, with the worker in this process."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from sqlalchemy import text

from invoiceflow import parts, postgres, queue, resources
from invoiceflow.config import Settings

from tests.pipe import pipe
from tests.running import Start, until

seen: list[str] = []
context: list[object] = []


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


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()
    context.clear()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(queue.serve(settings, [], stopping))
        yield
        stopping.set()


async def rows(query: str, **values: object) -> list[str]:
    async with postgres.transaction() as session:
        return [str(row) for row in await session.scalars(text(query), values)]


async def test_a_job_comes_with_the_transaction_that_asks_for_it(attached: Settings) -> None:
    async with working(attached):
        with suppress(KeyError):
            async with postgres.transaction() as session:
                await note.enqueue(session, "rolled back")
                raise KeyError
        async with postgres.transaction() as session:
            await note.enqueue(session, word="committed")
        await until(lambda: bool(seen))

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


async def test_an_error_is_tried_again(attached: Settings) -> None:
    async with postgres.transaction() as session:
        await stumble.enqueue(session, "twice")
    async with working(attached):
        await until(lambda: seen == ["twice", "twice"])


async def test_a_worker_that_stops_gives_its_job_back(attached: Settings) -> None:
    async with postgres.transaction() as session:
        number = await never_ends.enqueue(session)
    async with working(attached.model_copy(update={"grace_seconds": 0.1})):
        await until(lambda: seen == ["began"])

    query = "select status from procrastinate_jobs where id = :id"
    assert await rows(query, id=number) == ["todo"]
    await rows("delete from procrastinate_jobs where id = :id returning id", id=number)


@pytest.mark.parametrize(("attempts", "status"), [(0, "todo"), (2, "failed")])
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
    async with working(attached), postgres.transaction() as session:
        connection = await (await session.connection()).get_raw_connection()
        await queue.rescue.configure(connection=connection.driver_connection).defer_async(
            timestamp=0
        )
    query = "select status from procrastinate_jobs where id = :id and status <> 'doing'"
    async with working(attached):
        await until(lambda: rows(query, id=number))

    assert await rows(query, id=number) == [status]
    await rows("delete from procrastinate_jobs where id = :id returning id", id=number)


async def test_an_outage_ends_without_a_restart(attached: Settings) -> None:
    async with pipe(attached.database_url.get_secret_value()) as between:
        values = attached.model_dump() | {"database_url": between.url}
        async with working(Settings(**values)):
            async with postgres.transaction() as session:
                await note.enqueue(session, "before")
            await until(lambda: "before" in seen)
            await between.cut()
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


def test_every_job_of_the_service_has_a_name_of_its_own() -> None:
    modules = resources.load(parts.JOBS)
    jobs = [value for module in modules for value in vars(module).values()]
    names = [job.task.name for job in jobs if isinstance(job, queue.Job)]
    assert len(names) == len(set(names))
