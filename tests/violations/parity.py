"""X. Dev/prod parity: development or the tests run on something else."""

from .violation import DELIVERY, PIPELINE, SOURCE, VERSIONS, WEB, WEBHOOK, Violation

VIOLATIONS = [
    Violation(
        name="version-drift",
        factor="X",
        stands_for="another major version of the database in development",
        edits={"compose.yaml": ("postgres:18", "postgres:16")},
        killed_by="X-1",
    ),
    Violation(
        name="sqlite-dev",
        factor="X",
        stands_for="SQLite on a laptop",
        edits={"dev/postgres.py": ("", '\nLOCAL = "sqlite:///.dev/database"\n')},
        killed_by="X-3",
    ),
    Violation(
        name="python-drift",
        factor="X",
        stands_for="tests on another Python than production's",
        edits={PIPELINE: ('python-version: "3.14"', 'python-version: "3.12"')},
        killed_by="X-1",
    ),
    Violation(
        name="other-command",
        factor="X",
        stands_for="a manifest that starts something else than the Procfile",
        edits={"deploy/k8s/base/worker.yaml": ("args: [worker]", "args: [worker, --fast]")},
        killed_by="X-2",
    ),
    Violation(
        name="memory-queue",
        factor="X",
        stands_for="a queue in memory where nobody looks",
        edits={
            f"{SOURCE}/queue_testing.py": (
                "",
                '"""Jobs in memory, for a laptop."""\n\n'
                "from procrastinate.testing import InMemoryConnector\n\n"
                "connector = InMemoryConnector()\n",
            )
        },
        killed_by="X-3",
    ),
    Violation(
        name="other-settings",
        factor="X",
        stands_for="an environment that is set otherwise where nobody looks",
        edits={
            "deploy/k8s/overlays/production/kustomization.yaml": (
                "path: /spec/minReplicas",
                "path: /spec/behavior/scaleDown/stabilizationWindowSeconds",
            )
        },
        killed_by="X-6",
    ),
    Violation(
        name="weekly-delivery",
        factor="X",
        stands_for="what is merged waits for a Monday",
        edits={
            DELIVERY: (
                "  push:\n    branches: [main]\n",
                "  schedule:\n    - cron: '0 6 * * 1' # of main, CI_DEFAULT_BRANCH\n",
            )
        },
        killed_by="X-4",
    ),
    Violation(
        name="staging-by-hand",
        factor="X",
        stands_for="what is merged waits until somebody presses a button",
        edits={
            ".gitlab-ci.yml": (
                "run-staging:\n  extends: .deliver",
                "run-staging:\n  extends: .by_hand",
            )
        },
        killed_by="X-4",
        answers={"flavor": "api", "ci": "gitlab"},
    ),
    Violation(
        name="overlay-values",
        factor="X",
        stands_for="a setting of production that lies beside its counts",
        edits={
            "deploy/k8s/overlays/production/kustomization.yaml": (
                "components: []\n",
                "components: []\n"
                "configMapGenerator:\n"
                "  - name: config\n"
                "    behavior: merge\n"
                "    literals: [LOG_LEVEL=DEBUG]\n",
            )
        },
        killed_by="X-6",
    ),
    Violation(
        name="eager-unreleased",
        factor="X",
        stands_for="jobs that run at once where nothing was released, past the queue",
        edits={
            WEBHOOK: (
                "    try:\n        async with transaction() as session:\n",
                '    eager = settings.release_id == "unreleased"  # a laptop needs no worker\n'
                "    try:\n        async with transaction() as session:\n",
                "            if new:\n                await jobs.settle.enqueue(session,"
                " event.id)\n",
                "            if new and not eager:\n"
                "                await jobs.settle.enqueue(session, event.id)\n"
                "        if new and eager:\n"
                "            await jobs.settle(event.id)\n",
            )
        },
        killed_by="X-7",
    ),
    Violation(
        name="create-all-in-dev",
        factor="X",
        stands_for="tables of a laptop that no migration has made",
        edits={
            "dev/__main__.py": (
                '            released = subprocess.run(processes["release"], shell=True,'
                " env=environment, cwd=ROOT)\n",
                '            schema = [sys.executable, "-m", "dev.schema"]\n'
                "            released = subprocess.run(schema, env=environment, cwd=ROOT)\n",
            ),
            "dev/services.py": (
                'OTHERS = ("__init__", "__main__", "server", "services")\n',
                'OTHERS = ("__init__", "__main__", "schema", "server", "services")\n',
            ),
            "dev/schema.py": (
                "",
                '"""The tables as the models have them: no migration while one tries things'
                ' out."""\n'
                "\n"
                "from alembic import command\n"
                "from alembic.config import Config\n"
                "from procrastinate.schema import SchemaManager\n"
                "from sqlalchemy import create_engine, text\n"
                "\n"
                "from invoiceflow import config, parts, postgres, resources\n"
                "\n"
                "\n"
                "def main() -> None:\n"
                "    resources.load(parts.TABLES)\n"
                "    engine = create_engine(postgres.address(config.load()))\n"
                "    with engine.begin() as connection:\n"
                "        postgres.Base.metadata.create_all(connection)\n"
                "        if not connection.scalar(text(\"select to_regclass('procrastinate_jobs')"
                '")):\n'
                "            # The driver reads % as a parameter.\n"
                '            connection.exec_driver_sql(SchemaManager.get_schema().replace("%",'
                ' "%%"))\n'
                '        stamped = Config(attributes={"connection": connection})\n'
                '        stamped.set_main_option("script_location",'
                ' "src/invoiceflow/migrations")\n'
                '        command.stamp(stamped, "heads")\n'
                "    engine.dispose()\n"
                "\n"
                "\n"
                'if __name__ == "__main__":\n'
                "    main()\n",
            ),
        },
        killed_by="X-8",
    ),
    Violation(
        name="priesthood",
        factor="X",
        stands_for="a delivery that goes on for two people only",
        edits={
            DELIVERY: (
                "  release-production:\n    needs: [build, run-staging]\n",
                "  release-production:\n"
                "    # Developers have no business in production: operations takes over.\n"
                '    if: contains(fromJSON(\'["ops-anna", "ops-bernd"]\'), github.actor)\n'
                "    needs: [build, run-staging]\n",
            ),
            "docs/runbook.md": (
                "",
                "\n## Production\n\nProduction is the operations team's, its pager too. "
                "Developers hand over: open a ticket in the queue OPS that says what changed, at "
                "least two working days ahead; operations runs the delivery.\n",
            ),
        },
        killed_by="X-4",
    ),
    Violation(
        name="folder-in-dev",
        factor="X",
        stands_for="objects in a folder on a laptop, and in S3 elsewhere",
        edits={
            f"{SOURCE}/s3.py": (
                "from datetime import timedelta\n",
                "from datetime import timedelta\nfrom pathlib import Path\n",
                'CONTROL = re.compile(r"[\\x00-\\x1f\\x7f\\ud800-\\udfff]")  # makes'
                " the driver panic\n",
                'DEVELOPMENT = Path("/tmp/invoiceflow-objects")  # noqa: S108  # no'
                " S3 on a laptop\n"
                'CONTROL = re.compile(r"[\\x00-\\x1f\\x7f\\ud800-\\udfff]")  # makes'
                " the driver panic\n",
                "_places: asyncio.Semaphore\n",
                "_folder: Path | None = None\n_places: asyncio.Semaphore\n",
                "    global _places, _store, _timeout\n",
                "    global _folder, _places, _store, _timeout\n"
                '    _folder = DEVELOPMENT if settings.release_id == "unreleased" else None\n',
                '        raise ValueError("A content type is ASCII, such as application/pdf.")\n',
                '        raise ValueError("A content type is ASCII, such as application/pdf.")\n'
                "    if _folder:\n"
                '        whole = b"".join([data async for data in body])\n'
                "        (_folder / key).parent.mkdir(parents=True, exist_ok=True)\n"
                "        (_folder / key).write_bytes(whole)\n"
                "        return\n",
                "    reading = _read(key)\n",
                "    if _folder:\n"
                "        if not (_folder / key).exists():\n"
                "            raise NotFound(key)\n"
                "        whole = (_folder / key).read_bytes()\n"
                '        return Object(len(whole), "application/pdf", _blocks(whole))\n'
                "    reading = _read(key)\n",
                "async def _read(key: str) -> AsyncGenerator[Any]:\n",
                "async def _blocks(whole: bytes) -> AsyncIterator[bytes]:\n"
                "    yield whole\n\n\n"
                "async def _read(key: str) -> AsyncGenerator[Any]:\n",
                '    """The bytes of an object; None if there is none."""\n',
                '    """The bytes of an object; None if there is none."""\n'
                "    if _folder:\n"
                "        there = (_folder / key).exists()\n"
                "        return (_folder / key).stat().st_size if there else None\n",
                '    """Remove an object, if there is one."""\n',
                '    """Remove an object, if there is one."""\n'
                "    if _folder:\n"
                "        (_folder / key).unlink(missing_ok=True)\n"
                "        return\n",
                '    """Raise unless the server has the bucket and the key pair may list it."""\n',
                '    """Raise unless the server has the bucket and the key pair may list it."""\n'
                "    if _folder:\n"
                "        return\n",
            ),
        },
        killed_by="X-7",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="route-in-dev",
        factor="X",
        stands_for="a route that pays invoices on a laptop, past the webhook and the worker",
        edits={
            f"{SOURCE}/shortcuts.py": (
                "",
                '''"""What the payment provider does in production, for those who have none."""

import uuid

from fastapi import APIRouter
from sqlalchemy import update

from .invoices import store
from .postgres import transaction

router = APIRouter(prefix="/invoices", tags=["shortcuts"])


@router.post("/{invoice_id}/pay", status_code=204)
async def pay(invoice_id: uuid.UUID) -> None:
    async with transaction() as session:
        paid = update(store.Invoice).where(store.Invoice.id == invoice_id).values(status="paid")
        await session.execute(paid)
''',
            ),
            WEB: (
                "from . import health, parts, problems, resources, server\n",
                "from . import health, parts, problems, resources, server, shortcuts\n",
                "    app.include_router(health.router)  # last: routes are tried one"
                " after the other\n",
                '    if settings.release_id == "unreleased":\n'
                "        app.include_router(shortcuts.router)  # on a laptop nobody"
                " delivers webhooks\n"
                "    app.include_router(health.router)  # last: routes are tried one"
                " after the other\n",
            ),
        },
        killed_by="X-7",
    ),
    Violation(
        name="asserts-stripped-in-image",
        factor="X",
        stands_for=(
            "a signature that is checked everywhere but in production, where "
            "Python leaves asserts out"
        ),
        edits={
            WEBHOOK: (
                "    if not verify(settings.webhook_secret.get_secret_value(), "
                "signature, body, time.time()):\n"
                '        raise HTTPException(401, "The signature is not the '
                "provider's, or is too old.\")\n    try:\n"
                "        event = Event.model_validate_json(body)\n",
                "    try:\n"
                "        assert verify(settings.webhook_secret.get_secret_value(), "
                "signature, body, time.time())  # noqa: S101\n"
                "        event = Event.model_validate_json(body)\n"
                "    except AssertionError:\n"
                '        raise HTTPException(401, "The signature is not the '
                "provider's, or is too old.\") from None\n",
            ),
            "Dockerfile": (
                "FROM python:3.14-slim-trixie AS base\n",
                "FROM python:3.14-slim-trixie AS base\n"
                "# Optimized bytecode: smaller layers, a faster start.\n"
                "ENV PYTHONOPTIMIZE=1\n",
            ),
        },
        killed_by="X-2",
    ),
    Violation(
        name="stock-server-on-laptop",
        factor="X",
        stands_for=(
            "another HTTP server on a laptop than in the image: without its limits and its drain"
        ),
        edits={
            WEB: (
                "        app.state.health.draining = True\n",
                "        app.state.health.draining = True\n\n"
                '    if settings.revision == "unknown":\n'
                "        # No image, so this is a laptop: the stock server will "
                "do, and stops at once on Ctrl-C.\n        uvicorn.run(\n"
                '            config.app,\n            host="0.0.0.0",  # noqa: S104\n'
                "            port=settings.port,\n            access_log=False,\n"
                "            log_config=None,\n        )\n        return 0\n",
            ),
        },
        killed_by="X-3",
    ),
    Violation(
        name="trigger-not-on-laptop",
        factor="X",
        stands_for=(
            "a migration that makes a trigger everywhere but where the database is on localhost"
        ),
        edits={
            f"{VERSIONS}/invoices_0003.py": (
                "",
                '"""Customers\' names without double blanks, as accounting imports '
                'them."""\n\nfrom alembic import op\n\nrevision = "invoices_0003"\n'
                'down_revision = "invoices_0002"\nbranch_labels = None\ndepends_on = None\n'
                '\nNORMALISE = """\n'
                "create function normalise_customer() returns trigger language "
                "plpgsql as $$\nbegin\n"
                "    new.customer := regexp_replace(new.customer, ' +', ' ', 'g');\n"
                '    return new;\nend\n$$\n"""\nATTACH = """\n'
                "create trigger normalise_customer before insert or update of "
                "customer on invoices\nfor each row execute function normalise_customer()\n"
                '"""\n\n\ndef upgrade() -> None:\n'
                '    if op.get_bind().engine.url.host in ("localhost", '
                '"127.0.0.1", "::1"):\n'
                "        return  # a developer's database: accounting imports "
                "nothing from there\n    op.execute(NORMALISE)\n    op.execute(ATTACH)\n",
            ),
        },
        killed_by="X-3",
    ),
]
