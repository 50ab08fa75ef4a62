import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import Connection, NullPool, create_engine, inspect, make_url
from sqlalchemy.exc import DBAPIError

from invoiceflow import release
from invoiceflow.config import Settings

from dev.postgres import fresh
from dev.services import ROOT
from tests.running import Start

MIGRATIONS = Path(release.__file__).parent / "migrations"


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def test_three_at_once_migrate_once_and_again_changes_nothing(
    start: Start, environment: dict[str, str]
) -> None:
    with fresh(environment) as own:
        together = [start("release", environment | own) for _ in range(3)]
        assert [process.exit_code() for process in together] == [0, 0, 0]
        again = start("release", environment | own)
        assert again.exit_code() == 0

    after = again.event("release.migrated")["after"]
    changes = [process.event("release.migrated")["before"] != after for process in together]
    assert changes.count(True) == min(1, len(after))


def test_the_tables_are_what_the_migrations_make(environment: dict[str, str]) -> None:
    with connected(environment["DATABASE_URL"]) as connection:
        config = Config(toml_file=ROOT / "pyproject.toml", attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.check(config)


def test_a_failing_migration_leaves_nothing_half_done(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    tmp_path: Path,
) -> None:
    versions = shutil.copytree(MIGRATIONS, tmp_path / "migrations") / "versions"
    (versions / "half_0001.py").write_text(
        "from alembic import op\n"
        "import sqlalchemy as sa\n"
        "revision, down_revision, branch_labels = 'half_0001', None, ('half',)\n"
        "def upgrade() -> None:\n"
        "    op.create_table('half', sa.Column('id', sa.Integer(), primary_key=True))\n"
    )
    (versions / "half_0002.py").write_text(
        "from alembic import op\n"
        "revision, down_revision = 'half_0002', 'half_0001'\n"
        "def upgrade() -> None:\n"
        "    op.execute(\"select cast('waits ' || current_setting('lock_timeout') as int)\")\n"
    )
    monkeypatch.setattr(release, "__file__", str(tmp_path / "release.py"))
    with fresh(environment) as own:
        url = own["DATABASE_URL"]
        # Its error is how long it waits for a lock: not for ever, as others wait behind it.
        with pytest.raises(DBAPIError, match="waits 10s"):
            release.main(settings.model_copy(update={"database_url": SecretStr(url)}))
        with connected(url) as connection:
            assert inspect(connection).get_table_names() == []


def test_a_database_of_a_newer_release_is_left_alone(
    start: Start, environment: dict[str, str]
) -> None:
    with fresh(environment) as own:
        url = own["DATABASE_URL"]
        with connected(url) as connection:
            connection.exec_driver_sql("create table alembic_version (version_num text)")
            connection.exec_driver_sql("insert into alembic_version values ('service_9999')")
            connection.commit()
        process = start("release", environment | own)

        assert process.exit_code() == 1
        assert "service_9999" in process.event("release.failed")["reason"]
        with connected(url) as connection:
            assert inspect(connection).get_table_names() == ["alembic_version"]


def test_a_database_that_is_down_is_said_in_one_line(
    start: Start, unattached: dict[str, str]
) -> None:
    process = start("release", unattached)

    assert process.exit_code() == 1
    assert process.event("release.failed")["reason"]
    assert len(process.events) == 1
    assert not process.other
