import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from invoiceflow import postgres, resources
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from tests.pipe import Pipe, pipe


@asynccontextmanager
async def cuttable(settings: Settings) -> AsyncIterator[Pipe]:
    """The database through a pipe, with a short deadline."""
    async with pipe(settings.database_url.get_secret_value()) as between:
        values = {"database_url": between.url, "database_timeout_seconds": 0.5}
        async with resources.attach(Settings(**settings.model_dump() | values)):
            yield between


async def one() -> int:
    async with postgres.transaction() as session:
        return int(await session.scalar(text("select 1")) or 0)


async def test_a_transaction_commits_whole_or_not_at_all(attached: Settings) -> None:
    async def half() -> None:
        async with postgres.transaction() as session:
            await session.execute(text("create table half (id int primary key)"))
            await session.execute(text("insert into half values (1), (1)"))

    with pytest.raises(IntegrityError):
        await half()

    async with postgres.transaction() as session:
        assert await session.scalar(text("select to_regclass('half')")) is None


async def test_an_outage_is_said_at_once_and_ends_without_a_restart(attached: Settings) -> None:
    async with cuttable(attached) as between:
        assert await one() == 1
        await between.cut()
        for _ in range(attached.database_pool_size + 1):
            with pytest.raises(Unavailable):
                await one()
        await between.open()
        assert await one() == 1


async def test_a_server_that_hangs_holds_nobody_past_the_deadline(attached: Settings) -> None:
    async with cuttable(attached) as between:
        assert await one() == 1
        between.hang()
        waiting = [asyncio.create_task(one()) for _ in range(attached.database_pool_size * 2)]
        done, pending = await asyncio.wait(waiting, timeout=10)
        assert not pending
        assert all(isinstance(task.exception(), Unavailable) for task in done)
        between.flow()
        assert await one() == 1


async def test_a_schema_older_than_the_release_is_not_ready_and_a_newer_one_is(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await postgres.ping()
    heads, _ = postgres._revisions()

    monkeypatch.setattr(postgres, "_revisions", lambda: (heads | {"one_more"}, set()))
    with pytest.raises(RuntimeError, match="release process"):
        await postgres.ping()

    if heads:
        monkeypatch.setattr(postgres, "_revisions", lambda: ({"newer_0002"}, heads))
        with pytest.raises(RuntimeError, match="release process"):
            await postgres.ping()
        monkeypatch.setattr(postgres, "_revisions", lambda: ({f"older_{h}" for h in heads}, set()))
        await postgres.ping()


def test_the_revisions_are_those_that_alembic_sees() -> None:
    folder = Path(postgres.__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    script = ScriptDirectory.from_config(config)
    heads, older = postgres._revisions()

    assert heads == set(script.get_heads())
    assert heads | older == {revision.revision for revision in script.walk_revisions()}
