"""XII. Admin processes: a one-off that may not run again, or is run by something else."""

from .violation import (
    BASE,
    BEFORE_SERVING,
    CREATED,
    DELIVERY,
    DEPLOY,
    INVOICES,
    POSTGRES,
    QUEUE,
    RELEASE,
    SOURCE,
    WEB,
    WORKER,
    Violation,
)

UPGRADE = '            command.upgrade(config, "heads")\n'
CONSOLE = f"{SOURCE}/console.py"

VIOLATIONS = [
    Violation(
        name="migrates-last",
        factor="XII",
        stands_for="a deploy that migrates under its new processes",
        edits={
            f"{DEPLOY}/rollout.py": (
                '        _replace(target, record)\n    say(f"{record.environment} runs',
                '        target.migrate(record)\n    say(f"{record.environment} runs',
                "            target.migrate(record)\n        except (Failed",
                "            _replace(target, record)\n        except (Failed",
            )
        },
        killed_by="XII-9",
    ),
    Violation(
        name="script-by-hand",
        factor="XII",
        stands_for="a script by which data is repaired in production",
        edits={"bin/repair": ("", "#!/bin/sh\nkubectl exec deploy/web -- python -c 'repair()'\n")},
        killed_by="XII-8",
    ),
    Violation(
        name="runner-migrates",
        factor="XII",
        stands_for="a migration from wherever the pipeline runs",
        edits={
            DELIVERY: (
                "  run-staging:\n",
                "  migrate:\n    runs-on: ubuntu-24.04\n    timeout-minutes: 5\n"
                "    steps:\n      - run: uv run alembic upgrade head && bin/deploy $RELEASE\n\n"
                "  run-staging:\n",
            )
        },
        killed_by="XII-7",
    ),
    Violation(
        name="console-dotenv",
        factor="XII",
        stands_for="a console with other settings than the release's",
        edits={
            f"{SOURCE}/console.py": (
                "def main(settings: Settings) -> int:\n",
                "def main(settings: Settings) -> int:\n"
                "    with contextlib.suppress(OSError), open('.env') as lines:\n"
                "        os.environ.update(line.strip().split('=', 1) for line in lines)\n",
                "import code\n",
                "import code\nimport contextlib\nimport os\n",
            )
        },
        killed_by="XII-6",
    ),
    Violation(
        name="at-boot",
        factor="XII",
        stands_for="a web process that migrates when it starts",
        edits={
            WEB: (
                BEFORE_SERVING,
                "    release.main(settings)\n" + BEFORE_SERVING,
                "from . import health, parts, problems, resources, server\n",
                "from . import health, parts, problems, release, resources, server\n",
            )
        },
        killed_by="XII-2",
    ),
    Violation(
        name="worker-makes-tables",
        factor="XII",
        stands_for="a worker that makes what it misses",
        edits={
            WORKER: (
                "    resources.load(parts.JOBS)\n",
                "    resources.load([*parts.JOBS, *parts.TABLES])\n"
                "    engine = create_engine(postgres.address(settings))\n"
                "    postgres.Base.metadata.create_all(engine)\n",
                "from . import parts, queue,",
                "from sqlalchemy import create_engine\n\nfrom . import parts, postgres, queue,",
            )
        },
        killed_by="XII-2",
    ),
    Violation(
        name="no-lock",
        factor="XII",
        stands_for="two releases at once that migrate together",
        edits={RELEASE: ("            connection.execute(text(LOCK))\n", "")},
        killed_by="XII-1",
    ),
    Violation(
        name="not-idempotent",
        factor="XII",
        stands_for="a release that can be run once",
        edits={
            RELEASE: (
                UPGRADE,
                UPGRADE
                + '            connection.exec_driver_sql("create table released (id integer)")\n'
                + "            connection.commit()\n",
            )
        },
        killed_by="XII-1",
    ),
    Violation(
        name="seeds-again",
        factor="XII",
        stands_for="a release that adds its first data each time",
        edits={
            RELEASE: (
                UPGRADE,
                f"{UPGRADE}            connection.exec_driver_sql(SEED)\n"
                "            connection.commit()\n",
                "\nlog =",
                '\nSEED = "insert into invoices (customer, amount_cents, due_on) " + (\n'
                "    \"values ('Somebody', 100, '2030-01-01')\"\n)\nlog =",
            )
        },
        killed_by="XII-1",
    ),
    Violation(
        name="says-well",
        factor="XII",
        stands_for="a release that failed and says that it did not",
        edits={
            RELEASE: (
                "reason=str(error.orig).strip())\n        return 1\n",
                "reason=str(error.orig).strip())\n        return 0\n",
            )
        },
        killed_by="XII-1",
    ),
    Violation(
        name="half-done",
        factor="XII",
        stands_for="a migration that fails and leaves its first half",
        edits={
            RELEASE: (
                "connect_args=postgres.KEEPALIVE)",
                'connect_args=postgres.KEEPALIVE, isolation_level="AUTOCOMMIT")',
            )
        },
        killed_by="XII-5",
    ),
    Violation(
        name="ready-without-schema",
        factor="XII",
        stands_for="traffic before the tables are there",
        edits={
            POSTGRES: (
                "    if not released or applied & older or len(applied) < len(heads):\n",
                "    if applied & older:\n",
            )
        },
        killed_by="XII-2",
    ),
    Violation(
        name="renamed-column",
        factor="XII",
        stands_for="a migration by which the release before it breaks while it still serves",
        edits={
            f"{SOURCE}/invoices/store.py": (
                "    customer: Mapped[str]\n",
                '    customer: Mapped[str] = mapped_column("buyer")\n',
            ),
            f"{SOURCE}/migrations/versions/invoices_0003.py": (
                "",
                '"""Call customers buyers."""\n\nfrom alembic import op\n\n'
                'revision = "invoices_0003"\ndown_revision = "invoices_0002"\n'
                "branch_labels = None\ndepends_on = None\n\n\ndef upgrade() -> None:\n"
                '    op.alter_column("invoices", "customer", new_column_name="buyer")\n',
            ),
        },
        killed_by="XII-4",
    ),
    Violation(
        name="console-for-people",
        factor="XII",
        stands_for="a console that a script cannot use",
        edits={CONSOLE: ("            if sys.stdin.isatty():\n", "            if sys.stdin:\n")},
        killed_by="XII-6",
    ),
    Violation(
        name="worker-before-schema",
        factor="XII",
        stands_for="a worker that falls over an old schema",
        edits={
            QUEUE: (
                "        if not await runner.reached(stopping):\n            return\n",
                "",
                '            log.warning("worker.interrupted", reason=str(error) or type(',
                "            raise\n            dict(reason=str(error) or type(",
            )
        },
        killed_by="XII-2",
    ),
    Violation(
        name="job-image",
        factor="XII",
        stands_for="a migration from another image",
        edits={f"{BASE}/release.yaml": ("image: service", "image: service-migrations")},
        killed_by="XII-3",
    ),
    Violation(
        name="init-container",
        factor="XII",
        stands_for="every replica migrates",
        edits={
            f"{BASE}/web.yaml": (
                "      containers:\n",
                "      initContainers:\n"
                "        - {name: migrate, image: service, args: [release]}\n      containers:\n",
            )
        },
        killed_by="XII-7",
    ),
    Violation(
        name="psql-by-hand",
        factor="XII",
        stands_for="a README by which data is repaired by hand",
        edits={
            "README.md": (
                "",
                "\n```\npsql \"$DATABASE_URL\" -c 'update invoices set status = paid'\n```\n",
            )
        },
        killed_by="XII-8",
    ),
    Violation(
        name="request-alters-table",
        factor="XII",
        stands_for="a column that is added when a request misses it",
        edits={
            INVOICES: (
                CREATED,
                "        alter = 'alter table invoices add column if not exists note text'\n"
                f"        await session.execute(text(alter))\n{CREATED}",
                "from pydantic import BaseModel,",
                "from sqlalchemy import text\nfrom pydantic import BaseModel,",
            )
        },
        killed_by="XII-2",
    ),
    Violation(
        name="tasks-by-url",
        factor="XII",
        stands_for="admin tasks that somebody starts by a request",
        edits={
            f"{SOURCE}/routes.py": (
                "from fastapi import APIRouter\n",
                "import asyncio\n"
                "import hmac\n"
                "from typing import Annotated, Literal\n"
                "\n"
                "from fastapi import APIRouter, Header, HTTPException, Request\n"
                "\n"
                "from . import queue_postgres, release\n"
                "from .config import Settings\n",
                "router = APIRouter()\n",
                "router = APIRouter()\n"
                "\n\n"
                '@router.post("/admin/{task}")\n'
                "async def admin(\n"
                '    task: Literal["migrate", "replay"],\n'
                "    request: Request,\n"
                '    token: Annotated[str, Header()] = "",\n'
                ") -> dict[str, int]:\n"
                '    """For those who have no access to the cluster, by curl."""\n'
                "    settings: Settings = request.app.state.settings\n"
                "    secret = settings.webhook_secret.get_secret_value()\n"
                "    if not hmac.compare_digest(token.encode(), secret.encode()):\n"
                '        raise HTTPException(401, "The token is wrong.")\n'
                '    if task == "migrate":\n'
                '        return {"code": await asyncio.to_thread(release.main, settings)}\n'
                "    letters = await queue_postgres.dead_letters(settings, 1000)\n"
                '    return {"replayed": await queue_postgres.replay(settings, [one.id for one in'
                " letters])}\n",
            )
        },
        killed_by="XII-11",
    ),
    Violation(
        name="only-empty",
        factor="XII",
        stands_for="a migration that is done for new databases alone",
        edits={
            RELEASE: (
                "            before = _revisions(connection)\n",
                "            before = _revisions(connection)\n"
                "            if before:  # somebody was here first: there is nothing to do\n"
                '                log.info("release.migrated_before", revisions=before)\n'
                "                return 0\n",
            )
        },
        killed_by="XII-10",
    ),
    Violation(
        name="console-from-laptop",
        factor="XII",
        stands_for="a console on production that runs on somebody's laptop",
        edits={
            "bin/console": (
                "",
                "#!/bin/sh\n"
                "# A console on what an environment holds: `sh bin/console production`.\n"
                "set -eu\n"
                'cd "$(dirname "$0")/.."\n'
                'variables=$(kubectl --namespace "invoiceflow-$1" get secret secrets --output'
                ' go-template=\'{{range $name, $value := .data}}export {{$name}}={{printf "%q"'
                ' (base64decode $value)}}{{"\\n"}}{{end}}\')\n'
                'eval "$variables"\n'
                "exec .venv/bin/python -m invoiceflow console\n",
            ),
            "docs/runbook.md": (
                "",
                "\n## Mend data in production\n\n`sh bin/console production` on your machine, with "
                "your kubectl. `run(...)` awaits; a script goes to its standard input:\n\n```\n"
                "sh bin/console production < mend.py\n```\n",
            ),
        },
        killed_by="XII-8",
    ),
    Violation(
        name="warms-at-start",
        factor="XII",
        stands_for="a web process that makes what is missing before it is ready",
        edits={
            f"{SOURCE}/invoices/pdf.py": (
                "import structlog\n",
                "import structlog\nfrom sqlalchemy import select\n",
                "def key(invoice_id: uuid.UUID) -> str:\n",
                "async def warm() -> None:\n"
                '    """Make the documents that are missing, so that nobody waits for one."""\n'
                "    async with transaction() as session:\n"
                "        invoices = list(await session.scalars(select(Invoice.id)))\n"
                "    for invoice_id in invoices:\n"
                "        if await s3.size(key(invoice_id)) is None:\n"
                "            await write(str(invoice_id))\n"
                "\n\n"
                "def key(invoice_id: uuid.UUID) -> str:\n",
            ),
            WEB: (
                "from .config import Settings\n",
                "from .config import Settings\nfrom .invoices import pdf\n",
                "            await resources.reached()\n",
                "            await resources.reached()\n"
                "            try:\n"
                "                await pdf.warm()\n"
                "            except Exception as error:\n"
                '                log.warning("documents.missing", reason=type(error).__name__)\n',
            ),
        },
        killed_by="XII-12",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="leaves-it-to-the-other",
        factor="XII",
        stands_for="a release that is done because another one has begun",
        edits={
            RELEASE: (
                'LOCK = "select pg_advisory_lock(hashtext(current_database()), 1)"\n',
                'LOCK = "select pg_try_advisory_lock(hashtext(current_database()), 1)"\n',
                "            # Held by the session, so that a second release waits,"
                " then finds nothing to do.\n"
                "            connection.execute(text(LOCK))\n",
                "            # Held by the session, so that a second release leaves"
                " it to the first.\n"
                "            if not connection.scalar(text(LOCK)):\n"
                '                log.info("release.skipped", reason="another release migrates")\n'
                "                return 0\n",
            ),
        },
        killed_by="XII-1",
    ),
    Violation(
        name="nightly-pipeline",
        factor="XII",
        stands_for="a pipeline that cleans up production's data every night",
        edits={
            ".github/workflows/nightly.yml": (
                "",
                """# Reminders that nobody asks for any more.
name: nightly

on:
  schedule:
    - cron: "0 3 * * *"
  workflow_dispatch:

permissions: {}

jobs:
  purge:
    runs-on: ${{ vars.DELIVERY_RUNNER || 'ubuntu-24.04' }}
    timeout-minutes: 60
    environment: production
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - uses: astral-sh/setup-uv@20cfd1bf945f4377ade1205e4dbc17946fc9a30d # v10.0.1
        with:
          version: "0.13.9" # the Dockerfile's
      - env:
          DATABASE_URL: ${{ secrets.DATABASE_URL }}
        run: uv run --locked --no-dev python scripts/purge.py
""",
            ),
            "scripts/purge.py": (
                "",
                '''"""Deletes old reminders: `DATABASE_URL=... python scripts/purge.py`."""

import os

import psycopg

DAYS = 90

with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    deleted = connection.execute(
        "delete from reminders where day < current_date - %s::int", (DAYS,)
    ).rowcount
print(f"{deleted} reminders are gone.")
''',
            ),
        },
        killed_by="XII-8",
    ),
    Violation(
        name="schema-synchronised",
        factor="XII",
        stands_for="a release that makes the tables what the models say, without a migration",
        edits={
            RELEASE: (
                "from alembic import command\nfrom alembic.config import Config\n",
                "from alembic import command\nfrom alembic.autogenerate import produce_migrations\n"
                "from alembic.config import Config\nfrom alembic.operations import Operations\n"
                "from alembic.operations.ops import MigrateOperation, OpContainer\n",
                "from . import postgres\n",
                "from . import parts, postgres, resources\n",
                '            command.upgrade(config, "heads")\n',
                '            command.upgrade(config, "heads")\n'
                "            _synchronise(connection)\n",
                "def _revisions(connection: Connection) -> list[str]:\n",
                '''def _synchronise(connection: Connection) -> None:
    """Make the tables what the models say: a new column needs no migration."""
    resources.load(parts.TABLES)
    context = MigrationContext.configure(connection, opts={"include_object": _ours})
    operations = Operations(context)
    found = produce_migrations(context, postgres.Base.metadata)
    waiting: list[MigrateOperation] = list(found.upgrade_ops_list)
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, OpContainer):
            waiting[:0] = one.ops
        else:
            operations.invoke(one)
    connection.commit()


def _ours(_: object, name: str | None, kind: str, __: bool, ___: object) -> bool:
    return not (kind == "table" and str(name).startswith(("procrastinate_", "outbox")))


def _revisions(connection: Connection) -> list[str]:
''',
            ),
            f"{SOURCE}/invoices/store.py": (
                '    status: Mapped[Status] = mapped_column(String, server_default="open")\n',
                '    status: Mapped[Status] = mapped_column(String, server_default="open")\n'
                "    reference: Mapped[str | None]\n",
                "    session: AsyncSession, *, customer: str, amount_cents: int, due_on: date\n"
                ") -> Invoice:\n"
                '    values = {"customer": customer, "amount_cents": amount_cents,'
                ' "due_on": due_on}\n',
                "    session: AsyncSession,\n"
                "    *,\n"
                "    customer: str,\n"
                "    amount_cents: int,\n"
                "    due_on: date,\n"
                "    reference: str | None = None,\n"
                ") -> Invoice:\n"
                '    values = {"customer": customer, "amount_cents": amount_cents,'
                ' "due_on": due_on}\n'
                '    values["reference"] = reference\n',
            ),
            INVOICES: (
                "    due_on: date\n",
                "    due_on: date\n"
                "    reference: Annotated[str | None, Field(max_length=100,"
                ' pattern=r"^[^\\x00]*$")]'
                " = None\n",
            ),
        },
        killed_by="XII-10",
    ),
    Violation(
        name="stamps-what-failed",
        factor="XII",
        stands_for="a migration that fails, and is noted as done",
        edits={
            RELEASE: (
                "from sqlalchemy.exc import OperationalError\n",
                "from sqlalchemy.exc import OperationalError, ProgrammingError\n",
                '            command.upgrade(config, "heads")\n',
                "            try:\n"
                '                command.upgrade(config, "heads")\n'
                "            except ProgrammingError as error:\n"
                "                # The tables are from before there were migrations.\n"
                "                connection.rollback()\n"
                '                log.warning("release.stamped", reason=str(error.orig).strip())\n'
                '                command.stamp(config, "heads")\n',
            ),
        },
        killed_by="XII-10",
    ),
    Violation(
        name="replays-at-start",
        factor="XII",
        stands_for=(
            "every worker that starts puts all dead letters back on the queue, "
            "in place of a one-off"
        ),
        edits={
            WORKER: (
                "from . import parts, queue, queue_postgres, resources\n",
                "import asyncio\nfrom contextlib import suppress\n\n"
                "from . import parts, queue, queue_postgres, resources, runner\n",
                "    return queue.work(settings, queue_postgres.serve, queue_postgres.depth)\n",
                "    return queue.work(settings, _serve, queue_postgres.depth)\n\n\n"
                "async def _serve(settings: Settings, stopping: asyncio.Event) -> None:\n"
                '    """Give what failed for good another chance first: the fix '
                'may be in this release."""\n    with suppress(resources.Unavailable):\n'
                "        if await runner.reached(stopping):\n"
                "            letters = await queue_postgres.dead_letters(settings, 1000)\n"
                "            if letters:\n"
                "                await queue_postgres.replay(settings, [letter.id "
                "for letter in letters])\n"
                "    await queue_postgres.serve(settings, stopping)\n",
            ),
        },
        killed_by="XII-11",
    ),
    Violation(
        name="release-begins-anew",
        factor="XII",
        stands_for=(
            "a release that empties a database whose revision it does not "
            "know, and migrates from nothing"
        ),
        edits={
            RELEASE: (
                '            command.upgrade(config, "heads")\n',
                '            try:\n                command.upgrade(config, "heads")\n'
                "            except CommandError as error:\n"
                "                # Another branch's migrations ran here: begin "
                "again, with these.\n"
                '                log.warning("release.begins_anew", reason=str(error))\n'
                "                connection.rollback()\n"
                '                connection.execute(text("drop schema public cascade"))\n'
                '                connection.execute(text("create schema public"))\n'
                "                connection.commit()\n"
                '                command.upgrade(config, "heads")\n',
            ),
        },
        killed_by="XII-11",
    ),
]
