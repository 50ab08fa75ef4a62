"""The release process (factor XII): migrates the database once, however many run at once."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from . import postgres
from .config import Settings

LOCK = "select pg_advisory_lock(hashtext(current_database()), 1)"

log = structlog.get_logger()


def main(settings: Settings) -> int:
    """Apply what is missing in one transaction: a failing migration leaves nothing half done."""
    engine = create_engine(postgres.address(settings), connect_args=postgres.KEEPALIVE)
    try:
        with engine.connect() as connection:
            # Held by the session, so that a second release waits, then finds nothing to do.
            connection.execute(text(LOCK))
            connection.commit()
            before = _revisions(connection)
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            command.upgrade(config, "heads")
            log.info("release.migrated", before=before, after=_revisions(connection))
    except OperationalError as error:
        log.error("release.failed", reason=str(error.orig).strip())
        return 1
    except CommandError as error:
        hint = "Release forward only; in development, delete .dev to begin with an empty database."
        log.error("release.failed", reason=str(error), hint=hint)
        return 1
    finally:
        engine.dispose()
    return 0


def _revisions(connection: Connection) -> list[str]:
    revisions = sorted(MigrationContext.configure(connection).get_current_heads())
    connection.rollback()
    return revisions
