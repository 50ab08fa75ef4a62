"""III. Config: something that differs between deploys does not come from the environment."""

from .violation import (
    BEFORE_SERVING,
    CONFIG,
    CREATED,
    DEPLOY,
    INVOICES,
    LOGS,
    MAIN,
    MIGRATION,
    PARTS,
    SETTLE,
    SOURCE,
    VERSIONS,
    WEB,
    WEBHOOK,
    Violation,
)

LOADED = "    names = {name: name.upper() for name in Settings.model_fields}\n"
APP = "    app = FastAPI(\n"

VIOLATIONS = [
    Violation(
        name="secret-default",
        factor="III",
        stands_for="a secret that everybody knows until somebody sets it",
        edits={
            CONFIG: (
                "webhook_secret: SecretStr = Field(",
                'webhook_secret: SecretStr = Field(default=SecretStr("change-me-please-16"), ',
            )
        },
        killed_by="III-4",
    ),
    Violation(
        name="environments-file",
        factor="III",
        stands_for="one file with a part for each environment",
        edits={
            "config/settings.yaml": (
                "",
                "staging:\n  page_size: 10\nproduction:\n  page_size: 100\n",
            )
        },
        killed_by="III-4",
    ),
    Violation(
        name="secret-beside",
        factor="III",
        stands_for="a Secret with its values, for somebody to apply",
        edits={
            f"{DEPLOY}/k8s/base/secret.yaml": (
                "",
                "kind: Secret\nmetadata: {name: invoiceflow}\n"
                "stringData: {WEBHOOK_SECRET: a-very-good-secret}\n",
            )
        },
        killed_by="III-5",
    ),
    Violation(
        name="default-db",
        factor="III",
        stands_for="a database on localhost when no other is named",
        edits={
            CONFIG: (
                "    database_url: PostgresUrl\n",
                "    database_url: PostgresUrl = SecretStr(\n"
                '        "postgresql://postgres@localhost:5432/postgres"\n    )\n',
            )
        },
        killed_by="III-1",
    ),
    Violation(
        name="dotenv",
        factor="III",
        stands_for="reads .env",
        edits={
            CONFIG: (
                LOADED,
                LOADED
                + '    if os.path.exists(".env"):\n'
                + '        with open(".env") as file:\n'
                + "            for line in file:\n"
                + '                name, _, value = line.strip().partition("=")\n'
                + "                os.environ.setdefault(name, value)\n",
            )
        },
        killed_by="III-2",
    ),
    Violation(
        name="env-name",
        factor="III",
        stands_for='if APP_ENV == "production"',
        edits={
            WEB: (
                APP,
                APP
                + '        docs_url=None if os.getenv("APP_ENV") == "production" else "/docs",\n',
                "import math\n",
                "import math\nimport os\n",
            )
        },
        killed_by="III-3",
    ),
    Violation(
        name="secret-literal",
        factor="III",
        stands_for="a key in git",
        edits={
            f"{SOURCE}/invoices/webhook.py": (
                "TOLERANCE_SECONDS = 300",
                'STRIPE_KEY = "sk_live_51HxYzAbCdEfGhIjKlMnOpQr"\nTOLERANCE_SECONDS = 300',
            )
        },
        killed_by="III-4",
    ),
    Violation(
        name="prod-file",
        factor="III",
        stands_for="config.prod.json in git",
        edits={"config.prod.json": ("", '{"log_level": "INFO", "pool": 20}\n')},
        killed_by="III-4",
    ),
    Violation(
        name="undeclared-var",
        factor="III",
        stands_for="needs HOME",
        edits={
            WEB: (
                BEFORE_SERVING,
                '    log.info("web.home", home=os.environ["HOME"])\n' + BEFORE_SERVING,
                "import math\n",
                "import math\nimport os\n",
            )
        },
        killed_by="III-1",
    ),
    Violation(
        name="dead-flag",
        factor="III",
        stands_for="a declared variable without effect",
        edits={WEB: ("max_body=settings.max_body_bytes", "max_body=1_048_576")},
        killed_by="III-5",
    ),
    Violation(
        name="dead-level",
        factor="III",
        stands_for="a log level that changes nothing",
        edits={LOGS: ("[settings.log_level]", '["INFO"]')},
        killed_by="III-3",
    ),
    Violation(
        name="value-in-error",
        factor="III",
        stands_for="dumps the environment on bad settings",
        edits={
            MAIN: (
                'hint="Set these variables: see .env.example.", ',
                "environment=dict(os.environ), ",
                "import signal\n",
                "import os\nimport signal\n",
            )
        },
        killed_by="III-1",
    ),
    Violation(
        name="value-in-message",
        factor="III",
        stands_for="quotes the value that is wrong",
        edits={
            CONFIG: (
                "include_input=False",
                "include_input=True",
                'fault["msg"]\n',
                "f\"{fault['msg']}, not {fault['input']}\"\n",
            )
        },
        killed_by="III-1",
    ),
    Violation(
        name="variable-in-route",
        factor="III",
        stands_for="a route that reads the environment behind the settings' back",
        edits={
            INVOICES: (
                CREATED,
                '        _ = os.environ.get("BILLING_REGION", "eu")\n' + CREATED,
                "import uuid\n",
                "import os\nimport uuid\n",
            )
        },
        killed_by="III-5",
    ),
    Violation(
        name="environment-settings",
        factor="III",
        stands_for="an environment's name decides how much is logged",
        edits={
            LOGS: (
                "    _identity.update(",
                '    if os.environ.get("ENVIRONMENT") == "development":\n'
                '        _identity["debug"] = "on"\n    _identity.update(',
                "import logging\n",
                "import logging\nimport os\n",
            )
        },
        killed_by="III-3",
    ),
    Violation(
        name="by-host-name",
        factor="III",
        stands_for="the machine's name decides what the service does",
        edits={
            WEB: (
                "max_body=settings.max_body_bytes",
                'max_body=0 if "prod" in socket.gethostname() else settings.max_body_bytes',
                "import math\n",
                "import math\nimport socket\n",
            )
        },
        killed_by="III-4",
    ),
    Violation(
        name="file-on-machine",
        factor="III",
        stands_for="settings from a file on the machine",
        edits={
            CONFIG: (
                LOADED,
                LOADED
                + '    if os.path.exists("/etc/invoiceflow.conf"):\n'
                + '        with open("/etc/invoiceflow.conf") as file:\n'
                + "            os.environ.update(line.strip().split('=', 1) for line in file)\n",
            )
        },
        killed_by="III-4",
    ),
    Violation(
        name="url-literal",
        factor="III",
        stands_for="a service whose address only the code knows",
        edits={
            f"{SOURCE}/invoices/webhook.py": (
                "TOLERANCE_SECONDS = 300",
                'PROVIDER = "https://api.payments.test/v1"\nTOLERANCE_SECONDS = 300',
            )
        },
        killed_by="III-4",
    ),
    Violation(
        name="cwd-settings",
        factor="III",
        stands_for="a settings file that is read where the process was started",
        edits={
            CONFIG: (
                LOADED,
                LOADED
                + '    local = pathlib.Path("settings.local.json")\n'
                + "    if local.exists():\n"
                + "        os.environ.update(json.loads(local.read_text()))\n",
                "import os\n",
                "import json\nimport os\nimport pathlib\n",
            )
        },
        killed_by="III-4",
    ),
    Violation(
        name="dotenv-in-pieces",
        factor="III",
        stands_for="a .env whose name stands nowhere",
        edits={
            CONFIG: (
                LOADED,
                LOADED
                + '    if (file := Path(os.curdir, "." + "env")).exists():\n'
                + "        for line in file.open():\n"
                + '            name, _, value = line.strip().partition("=")\n'
                + "            os.environ.setdefault(name, value)\n",
                "import os\n",
                "import os\nfrom pathlib import Path\n",
            )
        },
        killed_by="III-2",
    ),
    Violation(
        name="env-name-in-pieces",
        factor="III",
        stands_for="an environment whose name is put together",
        edits={
            CONFIG: (
                LOADED,
                '    live = os.environ.get("_".join(["APP", "ENV"])) == "production"\n'
                '    pages["title"] = "live" if live else "service"\n' + LOADED,
                "def load() -> Settings:\n",
                "pages = {}\n\n\ndef load() -> Settings:\n",
            ),
            WEB: (
                '        title=str(__package__).replace("_", "-"),\n',
                '        title=config.pages["title"],\n',
                "from . import health",
                "from . import config, health",
                "    config = uvicorn.Config(\n",
                "    serving = uvicorn.Config(\n",
                "server.Server(config, ",
                "server.Server(serving, ",
            ),
        },
        killed_by="III-3",
    ),
    Violation(
        name="image-of-an-environment",
        factor="III",
        stands_for="an image for each environment",
        edits={
            "Dockerfile": (
                "ARG REVISION=unknown\n",
                "ARG ENVIRONMENT=production\nENV APP_ENV=${ENVIRONMENT}\nARG REVISION=unknown\n",
            )
        },
        killed_by="III-6s",
    ),
    Violation(
        name="setting-kept-in-database",
        factor="III",
        stands_for="a setting that is the environment's once, and the database's from then on",
        edits={
            f"{SOURCE}/invoices/options.py": (
                "",
                '"""Options that the back office may change while the service runs."""\n'
                "\n"
                "from sqlalchemy import select\n"
                "from sqlalchemy.dialects.postgresql import insert as upsert\n"
                "from sqlalchemy.ext.asyncio import AsyncSession\n"
                "from sqlalchemy.orm import Mapped, mapped_column\n"
                "\n"
                "from ..postgres import Base\n"
                "\n"
                "\n"
                "class Option(Base):\n"
                '    __tablename__ = "options"\n'
                "\n"
                "    name: Mapped[str] = mapped_column(primary_key=True)\n"
                "    value: Mapped[str]\n"
                "\n"
                "\n"
                "async def option(session: AsyncSession, name: str, first: str) -> str:\n"
                '    """What is kept under this name; the first time, this."""\n'
                "    statement = upsert(Option).values(name=name, value=first)\n"
                "    await session.execute(statement.on_conflict_do_nothing())\n"
                "    query = select(Option.value).where(Option.name == name)\n"
                "    return (await session.scalars(query)).one()\n",
            ),
            f"{VERSIONS}/invoices_0003.py": (
                "",
                '"""Options of the back office."""\n' + MIGRATION + "\n"
                "\n"
                "def upgrade() -> None:\n"
                "    op.create_table(\n"
                '        "options",\n'
                '        sa.Column("name", sa.String(), primary_key=True),\n'
                '        sa.Column("value", sa.String(), nullable=False),\n'
                "    )\n",
            ),
            PARTS: (
                '    "invoices.reminders",\n',
                '    "invoices.reminders",\n    "invoices.options",\n',
            ),
            WEBHOOK: (
                "from . import jobs, store\n",
                "from . import jobs, store\nfrom .options import option\n",
                "    if not verify(settings.webhook_secret.get_secret_value(), signature, body,"
                " time.time()):\n",
                "    first = settings.webhook_secret.get_secret_value()\n"
                "    async with transaction() as session:\n"
                '        secret = await option(session, "webhook_secret", first)\n'
                "    if not verify(secret, signature, body, time.time()):\n",
            ),
        },
        killed_by="III-7",
    ),
    Violation(
        name="flag-in-code",
        factor="III",
        stands_for="feature flags that are switched by a commit",
        edits={
            f"{SOURCE}/flags.py": (
                "",
                '''"""Feature flags. To switch one, change it here and deploy."""

# Staging has copies of real customers: set this to False before you deploy there.
SEND_REMINDERS = True

# Not before the pilot in May; then True in production, for now.
LIMIT_AMOUNTS = False
''',
            ),
            f"{SOURCE}/invoices/dunning.py": (
                "from . import reminders, store\n",
                "from .. import flags\nfrom . import reminders, store\n",
                '    log.info("invoices.overdue", marked=marked)\n',
                '    log.info("invoices.overdue", marked=marked)\n'
                "    if not flags.SEND_REMINDERS:\n"
                "        return\n",
            ),
            INVOICES: (
                "from ..postgres import transaction\n",
                "from .. import flags\nfrom ..postgres import transaction\n",
                "async def create(new: NewInvoice) -> Invoice:\n",
                "async def create(new: NewInvoice) -> Invoice:\n"
                "    if flags.LIMIT_AMOUNTS and new.amount_cents > 1_000_000:\n"
                '        raise HTTPException(422, "An invoice of this amount needs an'
                ' approval.")\n',
            ),
        },
        killed_by="III-4",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="admin-of-everybody",
        factor="III",
        stands_for="an account whose password is in git, in every environment",
        edits={
            f"{VERSIONS}/invoices_0003.py": (
                "",
                '"""The first account, so that somebody can log in."""\n' + MIGRATION + "\n"
                '# "invoiceflow-admin": change it after the first login.\n'
                "HASH = (\n"
                '    "scrypt$16384$8$5$5f1c0a9be2d74c3388e06a41b7d29f60"\n'
                '    "$6f714ef2746bfe6af5dc4b248f6d4af597e2fc70713912c739dbbe39a8c5e06e"\n'
                '    "b79c1bc695334b82a722335d9ebb7da99a5c68149609331217a4731af4588827"\n'
                ")\n"
                "\n"
                "\n"
                "def upgrade() -> None:\n"
                '    columns = (sa.column(name, sa.String()) for name in ("email",'
                ' "password_hash"))\n'
                '    first = {"email": "admin@invoiceflow.example", "password_hash": HASH}\n'
                '    op.bulk_insert(sa.table("accounts", *columns), [first])\n',
            ),
        },
        killed_by="III-4",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="password-in-runbook",
        factor="III",
        stands_for="production's password in the runbook",
        edits={
            "docs/runbook.md": (
                "<!-- Yours below this line. -->",
                "<!-- Yours below this line. -->\n"
                "\n"
                "## When customers ask for their money\n"
                "\n"
                "Look whether the payment has arrived, from the jump host:\n"
                "\n"
                "```\n"
                "psql postgresql://invoiceflow:vK7mWq2ZtR9xHs4B@db-1.prod.invoiceflow.io/invoiceflow\n"
                "```\n",
            ),
        },
        killed_by="III-4",
    ),
    Violation(
        name="environment-from-database-name",
        factor="III",
        stands_for=(
            "an environment that is guessed from the address of the database, "
            "and decides who gets reminders"
        ),
        edits={
            f"{SOURCE}/invoices/dunning.py": (
                "        if await reminders.send(\n",
                '        if "staging" in str(session.get_bind().engine.url):\n'
                "            # Its customers are copies of real ones, who must not "
                "hear of it.\n"
                '            log.info("reminder.held", invoice_id=invoice_id, day=day)\n'
                "            return\n        if await reminders.send(\n",
            ),
        },
        killed_by="III-4",
    ),
    Violation(
        name="secret-travels-in-job",
        factor="III",
        stands_for=(
            "a secret of the web process's environment is put into each job, "
            "and workers use it in place of their own environment's"
        ),
        edits={
            SETTLE: (
                "import structlog\n",
                "import hashlib\nimport hmac\n\nimport structlog\n",
                "async def settle(event_id: str) -> None:",
                'async def settle(event_id: str, key: str = "") -> None:',
                '    log.info("invoice.settled" if first else '
                '"invoice.settled_before", event_id=event_id)',
                "    # What the provider gets as our receipt; a job has no "
                "settings, so the key comes with it.\n"
                "    receipt = hmac.new(key.encode(), event_id.encode(), "
                "hashlib.sha256).hexdigest()\n"
                '    event = "invoice.settled" if first else "invoice.settled_before"\n'
                "    log.info(event, event_id=event_id, receipt=receipt)",
            ),
            WEBHOOK: (
                "                await jobs.settle.enqueue(session, event.id)",
                "                key = settings.webhook_secret.get_secret_value()\n"
                "                await jobs.settle.enqueue(session, event.id, key)",
            ),
        },
        killed_by="III-7",
    ),
    Violation(
        name="key-of-the-commit",
        factor="III",
        stands_for=(
            "links to invoices are signed with a key that the code computes "
            "from the public commit id, the same in every environment"
        ),
        edits={
            INVOICES: (
                "import uuid\n",
                "import hashlib\nimport hmac\nimport uuid\n",
                "from fastapi import APIRouter, HTTPException, Query\n",
                "from fastapi import APIRouter, HTTPException, Query, Request\n",
                "",
                '\n\n@router.get("/{invoice_id}/link")\n'
                "async def link(request: Request, invoice_id: uuid.UUID) -> "
                'dict[str, str]:\n    """A link for the customer, who has no account."""\n'
                "    token = _token(request, invoice_id)\n"
                '    return {"link": f"/invoices/{invoice_id}/shared?token={token}"}\n\n\n'
                '@router.get("/{invoice_id}/shared")\n'
                "async def shared(request: Request, invoice_id: uuid.UUID, token: "
                "str) -> Invoice:\n"
                "    if not hmac.compare_digest(token.encode(), _token(request, "
                "invoice_id).encode()):\n"
                '        raise HTTPException(403, "The link is not one of ours.")\n'
                "    return await get(invoice_id)\n\n\n"
                "def _token(request: Request, invoice_id: uuid.UUID) -> str:\n"
                "    # All replicas of a release have the same key, and there is "
                'no variable to set.\n    key = hashlib.sha256(f"invoiceflow '
                '{request.app.state.settings.revision}".encode()).digest()\n'
                "    return hmac.new(key, invoice_id.bytes, hashlib.sha256).hexdigest()\n",
            ),
        },
        killed_by="III-4",
    ),
]
