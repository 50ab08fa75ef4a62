import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import OperationalError as DriverError
from psycopg import connect
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from invoiceflow import postgres, resources
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from dev import services
from dev.postgres import fresh
from tests.pipe import Pipe, pipe
from tests.running import Start, until


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


@pytest.mark.parametrize(
    "malformed",
    ["127.0.0.1:5432", "mysql://x/y", "postgresql://me:pass/word@x/y", "postgresql://x:y/z"],
)
def test_a_malformed_url_is_named_and_not_shown(
    start: Start, unattached: dict[str, str], malformed: str
) -> None:
    process = start("release", unattached | {"DATABASE_URL": malformed})

    assert process.exit_code() == 1
    assert process.event("settings.invalid")["malformed"].keys() == {"DATABASE_URL"}
    assert malformed not in str(process.events)


async def test_a_transaction_commits_whole_or_not_at_all(attached: Settings) -> None:
    async def half() -> None:
        async with postgres.transaction() as session:
            await session.execute(text("create table half (id int primary key)"))
            await session.execute(text("insert into half values (1), (1)"))

    with pytest.raises(IntegrityError):
        await half()

    async with postgres.transaction() as session:
        assert await session.scalar(text("select to_regclass('half')")) is None
        await session.execute(text("create table whole (id int primary key)"))
    async with postgres.transaction() as session:
        await session.execute(text("drop table whole"))


async def test_a_process_holds_no_more_connections_than_its_pool(attached: Settings) -> None:
    async def backend() -> int:
        async with postgres.transaction() as session:
            return int(await session.scalar(text("select pg_backend_pid()")) or 0)

    async with resources.attach(attached.model_copy(update={"database_pool_size": 2})):
        assert len(set(await asyncio.gather(*(backend() for _ in range(20))))) <= 2


async def test_a_transaction_ends_at_its_deadline(attached: Settings) -> None:
    async with resources.attach(attached.model_copy(update={"database_timeout_seconds": 0.1})):
        with pytest.raises(Unavailable):
            async with postgres.transaction() as session:
                await session.execute(text("select pg_sleep(2)"))


async def test_a_timeout_of_the_work_in_a_transaction_is_not_an_outage(attached: Settings) -> None:
    with pytest.raises(TimeoutError):
        async with postgres.transaction():
            raise TimeoutError


async def test_an_outage_is_said_at_once_and_ends_without_a_restart(attached: Settings) -> None:
    async with cuttable(attached) as between:
        assert await one() == 1
        await between.cut()
        for _ in range(attached.database_pool_size + 1):
            with pytest.raises(Unavailable):
                await one()
        await between.open()
        assert await one() == 1


async def test_an_outage_under_the_driver_is_one_too_and_its_connection_is_not_used_again(
    attached: Settings,
) -> None:
    async def lose() -> None:
        async with postgres.transaction() as session:
            driver = await postgres.driver(session)
            await driver.execute("select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable):
        await lose()
    assert await one() == 1


async def test_a_process_waits_for_its_database_and_then_goes_on(attached: Settings) -> None:
    async with cuttable(attached) as between:
        await between.cut()
        with capture_logs() as lines:
            reached = asyncio.create_task(resources.reached())
            await until(lambda: lines)
            await between.open()
            await until(reached.done)

    assert [line["event"] for line in lines] == ["resource.waiting", "resources.reached"]


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


async def test_an_empty_database_is_not_ready(attached: Settings) -> None:
    with fresh({"DATABASE_URL": attached.database_url.get_secret_value()}) as own:
        empty = {"database_url": SecretStr(own["DATABASE_URL"])}
        async with resources.attach(attached.model_copy(update=empty)):
            with pytest.raises(RuntimeError, match="release process"):
                await postgres.ping()


def test_tests_touch_a_database_of_their_own_that_goes(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with services.isolated(tmp_path, environment) as urls:
        own = urls["DATABASE_URL"]
        connect(own).close()

    assert own != environment["DATABASE_URL"]
    with pytest.raises(DriverError, match="does not exist"):
        connect(own)


def test_the_revisions_are_those_that_alembic_sees() -> None:
    folder = Path(postgres.__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    script = ScriptDirectory.from_config(config)
    heads, older = postgres._revisions()

    assert heads == set(script.get_heads())
    assert heads | older == {revision.revision for revision in script.walk_revisions()}
