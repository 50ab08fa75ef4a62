"""How Alembic runs here: by the release process, or by hand with `bin/dev alembic`."""

from alembic import context
from alembic.operations import MigrationScript
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine

from invoiceflow import config, parts, postgres, resources

# Features of the template keep branches of their own, so that yours stays one unbroken line.
BRANCH = "service"


def number(_: object, __: object, directives: list[MigrationScript]) -> None:
    """Put a new migration at the end of this service's own branch, numbered."""
    script = directives[0]
    compared = getattr(context.config.cmd_opts, "autogenerate", False)
    if compared and script.upgrade_ops and script.upgrade_ops.is_empty():
        raise SystemExit("The tables are as the migrations make them: nothing to migrate.")
    known = [
        revision
        for revision in ScriptDirectory.from_config(context.config).walk_revisions()
        if BRANCH in revision.branch_labels
    ]
    script.rev_id = f"{BRANCH}_{len(known) + 1:04d}"
    script.head = f"{BRANCH}@head" if known else "base"
    script.branch_label = None if known else BRANCH


def include(_: object, name: str | None, kind: str, __: bool, ___: object) -> bool:
    """Leave the tables of the job queue alone: they are not yours."""
    return not (kind == "table" and str(name).startswith(("procrastinate_", "outbox")))


def run(connection: Connection) -> None:
    resources.load(parts.TABLES)
    context.configure(
        connection=connection,
        include_object=include,
        process_revision_directives=number,
        target_metadata=postgres.Base.metadata,
    )
    with context.begin_transaction():
        # A migration that waits for a lock makes everybody else wait behind it: give up early.
        connection.exec_driver_sql("set local lock_timeout = '10s'")
        context.run_migrations()


if attached := context.config.attributes.get("connection"):
    run(attached)
else:
    engine = create_engine(postgres.address(config.load()), poolclass=NullPool)
    with engine.connect() as opened:
        run(opened)
