"""What only the queue in PostgreSQL does: it joins transactions, and rescues by the database."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import procrastinate
import pytest
from procrastinate import exceptions, jobs
from procrastinate.manager import JobManager
from sqlalchemy import text

from invoiceflow import postgres, queue, queue_postgres, runner
from invoiceflow.config import Settings

from tests.queueing import dead, put, working
from tests.running import until

seen: list[str] = []
gate = asyncio.Event()


@queue.job(attempts=3)
async def note(word: str = "") -> None:
    seen.append(word)


@queue.job(attempts=3)
async def fails(word: str) -> None:
    seen.append(word)
    await gate.wait()
    if seen.count(word) < 2:
        raise RuntimeError("once")


async def rows(query: str, **values: object) -> list[str]:
    async with postgres.transaction() as session:
        return [str(row) for row in await session.scalars(text(query), values)]


@pytest.fixture(autouse=True)
async def nothing_waits(attached: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    global gate
    seen.clear()
    gate = asyncio.Event()
    monkeypatch.setattr(runner, "later", lambda _: 3600)
    await rows("delete from procrastinate_jobs returning 1")


async def test_a_job_comes_with_the_transaction_that_asks_for_it(attached: Settings) -> None:
    with suppress(KeyError):
        async with postgres.transaction() as session:
            await note.enqueue(session, "rolled back")
            await note.once("free").enqueue(session, "rolled back")
            raise KeyError
    async with postgres.transaction() as session:
        assert await note.once("free").enqueue(session, word="committed")
        async with working(attached):
            unseen = "select 1 from procrastinate_workers"
            await until(lambda: rows(unseen))
            assert seen == []
    async with working(attached):
        await until(lambda: seen == ["committed"])


async def test_a_transaction_goes_on_after_a_key_that_is_taken(attached: Settings) -> None:
    await put(note.once("taken"), "first")
    async with postgres.transaction() as session:
        await note.enqueue(session, "before")
        assert await note.once("taken").enqueue(session, "second") is None
        await note.enqueue(session, "after")
    async with working(attached):
        await until(lambda: sorted(seen) == ["after", "before", "first"])


async def test_a_job_is_tried_again_though_another_waits_under_its_key(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "later", lambda _: 0)
    async with working(attached.model_copy(update={"worker_concurrency": 1})):
        await put(fails.once("key"), "first")
        await until(lambda: seen == ["first"])
        assert await put(fails.once("key"), "second") != "None"
        gate.set()
        await until(lambda: sorted(seen) == ["first", "first", "second", "second"])


async def test_what_failed_waits_for_its_next_try(attached: Settings) -> None:
    gate.set()
    id = await put(fails, "late")
    query = (
        "select concat(status, attempts, scheduled_at > now() + interval '59 minutes')"
        " from procrastinate_jobs where id::text = :id and attempts > 0"
    )
    async with working(attached):
        await until(lambda: rows(query, id=id))

    assert await rows(query, id=id) == ["todo1t"]


async def held(attempts: int, silence: int, job: str = note.name) -> str:
    """The id of a job in the hands of a worker that has been silent for so many seconds."""
    id = await put(note)
    await rows(
        "with own as (insert into procrastinate_workers (last_heartbeat)"
        " values (now() - make_interval(secs => :silence)) returning id)"
        " update procrastinate_jobs set status = 'doing', attempts = :attempts, task_name = :job,"
        " worker_id = (select id from own) where id::text = :id returning id",
        id=id,
        attempts=attempts,
        silence=silence,
        job=job,
    )
    return id


async def test_the_job_of_a_dead_worker_is_given_to_others_but_not_for_ever(
    attached: Settings,
) -> None:
    ids = [
        await held(0, 100),
        await held(1, 100),
        await held(2, 100),
        await held(8, 100, "newer.job"),
        await held(9, 100, "newer.job"),
        await held(0, 10),
    ]
    query = (
        "select concat(status, attempts, ' ', priority, ' ',"
        " scheduled_at > now() + interval '59 minutes')"
        " from procrastinate_jobs where id::text = any(:ids) order by id"
    )
    # Apart from its neighbours, lest it end the next worker before they are done, behind none.
    expected = ["todo1 0 t", "todo2 0 t", "failed3 0 ", "todo9 0 t", "failed10 0 ", "doing0 0 "]

    async def rescued() -> bool:
        return await rows(query, ids=ids) == expected

    async with working(attached):
        await until(rescued)
    newest = runner.DeadLetter(ids[4], "newer.job", {})
    assert await queue_postgres.dead_letters(attached, 1) == [newest]
    assert set(await dead(attached)) == {ids[2], ids[4]}


async def test_a_dead_letter_is_put_back_though_another_waits_under_its_key(
    attached: Settings,
) -> None:
    id = await put(note.once("key"), "first")
    await rows("update procrastinate_jobs set status = 'failed' returning id")
    assert await put(note.once("key"), "second") != "None"
    assert await queue_postgres.replay(attached, [id]) == 1
    async with working(attached):
        await until(lambda: sorted(seen) == ["first", "second"])


async def test_a_job_that_ends_while_it_is_rescued_holds_up_no_other(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, other = await held(0, 100), await held(0, 100)
    find = JobManager.get_stalled_jobs

    async def meanwhile(self: JobManager, **values: Any) -> Iterable[jobs.Job]:
        stalled = await find(self, **values)
        await rows("delete from procrastinate_jobs where id::text = :id returning 1", id=ended)
        return sorted(stalled, key=lambda job: job.id or 0)

    monkeypatch.setattr(JobManager, "get_stalled_jobs", meanwhile)
    query = "select id from procrastinate_jobs where status = 'todo'"

    async def rescued() -> bool:
        return await rows(query) == [other]

    async with working(attached):
        await until(rescued)


async def test_the_job_of_a_living_worker_is_left_to_it_however_long_it_lasts(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[float] = []
    rescue = queue_postgres._rescue_once

    async def counted(app: procrastinate.App, silence: float) -> None:
        rounds.append(silence)
        if len(rounds) == 1:
            raise exceptions.ConnectorException("away")  # it goes on all the same
        await rescue(app, silence)

    monkeypatch.setattr(queue_postgres, "_rescue_once", counted)
    await put(fails, "long")
    async with working(attached.model_copy(update={"worker_stalled_seconds": 1.5})):
        await until(lambda: seen)
        so_far = len(rounds)
        await until(lambda: len(rounds) > so_far + 4)  # three of them take those seconds
        assert seen == ["long"]
        assert await rows("select id from procrastinate_jobs where status <> 'doing'") == []
        seen.append("long")
        gate.set()
    assert await rows("select id from procrastinate_jobs where status <> 'failed'") == []


async def test_two_clocks_put_each_time_on_the_queue_once_and_run_nothing(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TICKS", [])
    queue.schedule("* * * * * *", note)  # the sixth field counts seconds
    waiting = await put(note)
    query = "select args->>'timestamp' from procrastinate_jobs where id::text <> :waiting"
    stopping = asyncio.Event()

    async def thrice() -> bool:
        return len(await rows(query, waiting=waiting)) >= 3

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(queue_postgres.tick(attached, stopping))
        await until(thrice)
        stopping.set()

    times = await rows(query, waiting=waiting)
    assert len(times) == len(set(times))
    assert seen == []
