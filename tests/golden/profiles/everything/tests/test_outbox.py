"""The outbox: a job comes with its transaction, and leaves the table once the broker has it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from invoiceflow import outbox, postgres, queue, queue_rabbitmq, runner
from invoiceflow.config import Settings

from tests.pipe import pipe
from tests.queueing import put
from tests.running import until

Sent = Sequence[tuple[str, runner.Message]]

sent: list[tuple[str, runner.Message]] = []


@queue.job()
async def note(word: str) -> None:
    pass


async def send(messages: Sent) -> None:
    sent.extend(messages)


def words() -> list[str]:
    return [message.arguments["word"] for _, message in sent]


@pytest.fixture(autouse=True)
async def nothing_waits(attached: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sent.clear()
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0)
    # What is sent within the patience of a test was announced.
    monkeypatch.setattr(outbox, "POLL_SECONDS", 3600)
    async with postgres.transaction() as session:
        await session.execute(text("truncate outbox, outbox_keys"))


@asynccontextmanager
async def relaying(settings: Settings, *sends: runner.Send) -> AsyncIterator[None]:
    relays = [
        asyncio.create_task(outbox.relay(settings, asyncio.Event(), one)) for one in sends or [send]
    ]
    try:
        yield
    finally:
        for relay in relays:
            relay.cancel()
        await asyncio.wait(relays)


async def gone() -> bool:
    return await outbox.waiting() == 0


async def test_a_job_comes_with_the_transaction_that_asks_for_it(attached: Settings) -> None:
    with suppress(KeyError):
        async with postgres.transaction() as session:
            await note.enqueue(session, "rolled back")
            await note.once("free").enqueue(session, "rolled back")
            raise KeyError
    async with relaying(attached):
        async with postgres.transaction() as session:
            id = await note.once("free").enqueue(session, word="committed")
            assert await outbox.waiting() == 0
        await until(gone)
    assert sent == [(id, runner.Message(note.name, {"word": "committed"}, {}, f"{note.name} free"))]


@pytest.mark.parametrize("commit", [True, False])
async def test_of_two_transactions_with_a_key_the_second_waits_for_the_first(
    attached: Settings, commit: bool
) -> None:
    once = note.once("same")
    locks = text(
        "select 1 from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )

    async def blocked() -> bool:
        async with postgres.transaction() as session:
            return bool(await session.scalar(locks))

    with suppress(KeyError):
        async with postgres.transaction() as session:
            assert await once.enqueue(session, "first")
            second = asyncio.create_task(put(once, "second"))
            await until(blocked)
            if not commit:
                raise KeyError

    assert (await second == "None") is commit
    assert await outbox.waiting() == 1


async def test_what_has_not_been_sent_counts_as_waiting(attached: Settings) -> None:
    before = await queue_rabbitmq.depth(attached)
    await put(note, "unsent")
    after = await queue_rabbitmq.depth(attached)
    assert after.waiting == before.waiting + 1


async def test_two_relays_send_every_job_once_and_in_full_batches(attached: Settings) -> None:
    both = asyncio.Barrier(2)
    batches: list[int] = []

    async def meet(messages: Sent) -> None:
        batches.append(len(messages))
        if len(batches) <= 2:
            await both.wait()  # each holds some while the other takes more
        await send(messages)

    async with postgres.transaction() as session:
        ids = [await note.enqueue(session, str(number)) for number in range(250)]
    async with relaying(attached, meet, meet):
        await until(gone)
    assert sorted(id for id, _ in sent) == sorted(map(str, ids))
    assert batches == [100, 100, 50]


async def test_jobs_stay_until_the_broker_has_them_and_go_in_their_order(
    attached: Settings,
) -> None:
    refused: list[Sent] = []

    async def refuse(messages: Sent) -> None:
        if not refused:
            refused.append(messages)
            raise ConnectionError("the broker is away")
        await send(messages)

    for word in "abc":
        await put(note, word)
    with capture_logs() as lines:
        async with relaying(attached, refuse):
            await until(gone)
    assert words() == ["a", "b", "c"]
    assert refused == [sent]
    assert [line["reason"] for line in lines if line["event"] == "worker.interrupted"] == [
        "the broker is away"
    ]


async def test_a_job_is_sent_as_soon_as_it_is_committed(attached: Settings) -> None:
    await put(note, "before")
    async with relaying(attached):
        await until(lambda: words() == ["before"])
        await put(note, "after")
        await until(lambda: words() == ["before", "after"])


async def test_a_job_that_nothing_announced_is_sent_too(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "POLL_SECONDS", 0.01)
    async with relaying(attached):
        async with postgres.transaction() as session:
            await session.execute(text("alter table outbox disable trigger outbox_notify"))
            await note.enqueue(session, "silent")
            await session.execute(text("alter table outbox enable trigger outbox_notify"))
        await until(lambda: words() == ["silent"])


async def test_a_relay_outlives_a_cut_connection(attached: Settings) -> None:
    async with pipe(attached.database_url.get_secret_value()) as between:
        values = attached.model_dump() | {"database_url": between.url}
        async with relaying(Settings(**values)):
            await put(note, "before")
            await until(lambda: words() == ["before"])
            await between.cut()
            await put(note, "meanwhile")
            await between.open()
            await until(lambda: words() == ["before", "meanwhile"])
            await put(note, "after")
            await until(lambda: words() == ["before", "meanwhile", "after"])
