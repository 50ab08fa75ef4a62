"""IV. Backing services: one that is late, away, hung or another is noticed by the wrong people."""

from .violation import BASE, HEALTH, INVOICES, POSTGRES, PROBLEMS, QUEUE, SOURCE, WEB, Violation

REDIS = f"{SOURCE}/redis.py"
INTERRUPTED = (
    '            log.warning("worker.interrupted", reason=str(error) or type(error).__name__)\n'
)
POOLED = "        max_overflow=0,\n        pool_size=settings.database_pool_size,\n"
VIOLATIONS = [
    Violation(
        name="redis-hardcoded",
        factor="IV",
        stands_for="ignores REDIS_URL",
        edits={REDIS: ("settings.redis_url.get_secret_value()", '"{REDIS_URL}"')},
        killed_by="IV-1",
        answers={"services": ["postgres", "redis"]},
    ),
    Violation(
        name="tls-dropped",
        factor="IV",
        stands_for="reads host, user and name out of DATABASE_URL and leaves what it asks of TLS",
        edits={
            POSTGRES: (
                'url.set(drivername="postgresql+psycopg")',
                'url.set(drivername="postgresql+psycopg", query={})',
            )
        },
        killed_by="IV-1",
    ),
    Violation(
        name="redis-without-tls",
        factor="IV",
        stands_for="works with the Redis of the laptop, and with none that is managed",
        edits={
            REDIS: (
                "settings.redis_url.get_secret_value(),",
                'settings.redis_url.get_secret_value().replace("rediss://", "redis://"),',
            )
        },
        killed_by="IV-1",
        answers={"services": ["postgres", "redis"]},
    ),
    Violation(
        name="asleep-after-outage",
        factor="IV",
        stands_for="a pool that tries again at ever longer intervals",
        edits={
            QUEUE: (
                "            timeout=settings.database_timeout_seconds,\n"
                "            reconnect_timeout=settings.database_timeout_seconds,\n",
                "",
            )
        },
        killed_by="IV-2",
    ),
    Violation(
        name="connect-once",
        factor="IV",
        stands_for="never connects again",
        edits={
            POSTGRES: (
                '"async_creator_fn": Connection.connect,',
                '"async_creator_fn": _once,',
                POOLED,
                "        max_overflow=0,\n        pool_size=1,\n",
                "",
                "\n\n_first: list[AsyncConnection[TupleRow]] = []\n\n\n"
                "async def _once(*words: str, **more: object) -> AsyncConnection[TupleRow]:\n"
                "    if not _first:\n"
                "        _first.append(await Connection.connect(*words, **more))\n"
                "    return _first[0]\n",
            )
        },
        killed_by="IV-2",
    ),
    Violation(
        name="live-needs-db",
        factor="IV",
        stands_for="a restart storm in an outage",
        edits={
            HEALTH: (
                "async def live() -> JSONResponse:\n",
                "async def live() -> JSONResponse:\n    await postgres.ping()\n",
                "from . import parts, resources\n",
                "from . import parts, postgres, resources\n",
            )
        },
        killed_by="IV-2",
    ),
    Violation(
        name="ready-always",
        factor="IV",
        stands_for="traffic to a replica that never reached its database",
        edits={HEALTH: ("reached: bool = False", "reached: bool = True")},
        killed_by="IV-3",
    ),
    Violation(
        name="boot-needs-db",
        factor="IV",
        stands_for="a crash loop when a service is late",
        edits={
            WEB: (
                "        async with resources.attach(settings):\n",
                "        async with resources.attach(settings):\n"
                "            for resource in resources.load(parts.RESOURCES):\n"
                "                await resource.ping()\n",
            )
        },
        killed_by="IV-3",
    ),
    Violation(
        name="worker-needs-db",
        factor="IV",
        stands_for="a worker that crashes when its database is late",
        edits={
            QUEUE: (
                "    app = _app()\n    while",
                "    await resources.load(parts.RESOURCES)[0].ping()\n    app = _app()\n    while",
                "from . import runner\n",
                "from . import parts, resources, runner\n",
            )
        },
        killed_by="IV-3",
    ),
    Violation(
        name="worker-ends-in-outage",
        factor="IV",
        stands_for="a worker that somebody has to start again",
        edits={QUEUE: (INTERRUPTED, f"{INTERRUPTED}            raise\n")},
        killed_by="IV-2",
    ),
    Violation(
        name="no-retry-after",
        factor="IV",
        stands_for="a client that is not told when to come again",
        edits={PROBLEMS: ('{"Retry-After": "1"}', "None")},
        killed_by="IV-2",
    ),
    Violation(
        name="outage-is-500",
        factor="IV",
        stands_for="an outage that looks like a bug",
        edits={PROBLEMS: ('problem(503, f"{error}: try again."', 'problem(500, f"{error}."')},
        killed_by="IV-2",
    ),
    Violation(
        name="outage-is-empty",
        factor="IV",
        stands_for="no invoices where there is no database",
        edits={
            INVOICES: (
                "    async with transaction() as session:\n        return [Invoice.",
                "    with contextlib.suppress(Unavailable):\n"
                "        async with transaction() as session:\n            return [Invoice.",
                "store.newest(session, limit=limit)]\n",
                "store.newest(session, limit=limit)]\n    return []\n",
                "import uuid\n",
                "import contextlib\nimport uuid\n",
                "from . import store\n",
                "from ..resources import Unavailable\nfrom . import store\n",
            )
        },
        killed_by="IV-2",
    ),
    Violation(
        name="no-deadline",
        factor="IV",
        stands_for="a request that waits as long as its database does",
        edits={
            POSTGRES: (
                "asyncio.timeout(_timeout) as deadline",
                "asyncio.timeout(None) as deadline",
            ),
            f"{SOURCE}/middleware.py": (
                "loop.call_later(self.timeout, expire)",
                "loop.call_later(3600, expire)",
            ),
        },
        killed_by="IV-4",
    ),
    Violation(
        name="blocking-driver",
        factor="IV",
        stands_for="one hung query that stops every request",
        edits={
            INVOICES: (
                "    async with transaction() as session:\n        return [Invoice.",
                "    url = request.app.state.settings.database_url.get_secret_value()\n"
                "    with psycopg.connect(url) as connection:\n"
                '        connection.execute("select 1")\n'
                "    async with transaction() as session:\n        return [Invoice.",
                "async def newest(",
                "async def newest(request: Request, ",
                "HTTPException, Query\n",
                "HTTPException, Query, Request\n",
                "from fastapi",
                "import psycopg\nfrom fastapi",
            )
        },
        killed_by="IV-4",
    ),
    Violation(
        name="ready-follows-db",
        factor="IV",
        stands_for="an outage that takes every replica out of service at once",
        edits={
            HEALTH: (
                "    if not state.reached:\n",
                "    if state.reached:\n        await postgres.ping()\n    if not state.reached:\n",
                "from . import parts, resources\n",
                "from . import parts, postgres, resources\n",
            )
        },
        killed_by="IV-2",
    ),
    Violation(
        name="worker-deaf-after-outage",
        factor="IV",
        stands_for="a worker that lives on and takes no job any more",
        edits={QUEUE: (INTERRUPTED, f"{INTERRUPTED}            await stopping.wait()\n")},
        killed_by="IV-2",
    ),
    Violation(
        name="needs-superuser",
        factor="IV",
        stands_for="works with the owner of the server, and with no role that one is given",
        edits={
            POSTGRES: (
                '    "connect_timeout": 5,\n',
                '    "connect_timeout": 5,\n'
                "    # What is slow stands in the server's log.\n"
                '    "options": "-c log_min_duration_statement=250",\n',
            )
        },
        killed_by="IV-1",
    ),
    Violation(
        name="redis-config-set",
        factor="IV",
        stands_for="sets up a Redis that is another's to set up",
        edits={
            f"{SOURCE}/redis.py": (
                "    async with commands() as client:\n"
                "        try:\n"
                '            memory = await client.info("memory")\n',
                "    async with commands() as client:\n"
                "        # Sessions must not go early, however the server was set up.\n"
                '        await client.config_set("maxmemory-policy", "noeviction")\n'
                "        try:\n"
                '            memory = await client.info("memory")\n',
            )
        },
        killed_by="IV-1",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="mail-localhost",
        factor="IV",
        stands_for="a mail server that has to be on the same machine",
        edits={
            f"{SOURCE}/mail.py": (
                "",
                '''"""Mail, through the mail server of the machine."""

import asyncio
import smtplib
from email.message import EmailMessage

import structlog

log = structlog.get_logger()


async def send(to: str, subject: str, text: str) -> None:
    message = EmailMessage()
    message["From"] = "Invoiceflow <billing@invoiceflow.io>"
    message["To"] = to
    message["Subject"] = subject
    message.set_content(text)
    try:
        await asyncio.to_thread(_send, message)
    except OSError as error:  # there is none on a laptop
        log.warning("mail.unsent", reason=str(error))


def _send(message: EmailMessage) -> None:
    with smtplib.SMTP("localhost", 25, timeout=2) as server:
        server.send_message(message)
''',
            ),
            f"{SOURCE}/invoices/dunning.py": (
                "from ..postgres import transaction\n",
                "from .. import mail\nfrom ..postgres import transaction\n",
                "            # Your mail, before the commit: a crash between the two"
                " sends it again, not never.\n",
                "            # Before the commit: a crash between the two sends it"
                " again, not never.\n"
                "            await mail.send(\n"
                '                "dunning@invoiceflow.io",\n'
                '                f"Invoice {invoice_id} is overdue",\n'
                '                f"On {day} it was not paid yet.",\n'
                "            )\n",
            ),
        },
        killed_by="IV-5",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="same-machine",
        factor="IV",
        stands_for="a database that has to be on the same machine",
        edits={
            INVOICES: (
                '"""Invoices through the API."""\n\nimport uuid\n',
                '"""Invoices through the API."""\n\nimport tempfile\nimport uuid\n',
                "from datetime import date, datetime\n",
                "from datetime import date, datetime\nfrom pathlib import Path\n",
                "from fastapi import APIRouter, HTTPException, Query\n",
                "from fastapi import APIRouter, HTTPException, Query\n"
                "from fastapi.responses import FileResponse\n",
                "from pydantic import BaseModel, ConfigDict, Field, StringConstraints\n",
                "from pydantic import BaseModel, ConfigDict, Field, StringConstraints\n"
                "from sqlalchemy import text\n",
                '@router.get("/{invoice_id}")\n',
                '@router.get("/export", response_class=FileResponse)\n'
                "async def export() -> FileResponse:\n"
                '    """All of them as CSV: the database writes it far faster than we do."""\n'
                '    file = Path(tempfile.gettempdir()) / f"invoices-{uuid.uuid4()}.csv"\n'
                "    async with transaction() as session:\n"
                "        await session.execute("
                "text(f\"copy invoices to '{file}' with (format csv, header)\"))\n"
                '    return FileResponse(file, media_type="text/csv", filename="invoices.csv")\n'
                "\n"
                "\n"
                '@router.get("/{invoice_id}")\n',
            )
        },
        killed_by="IV-5",
    ),
    Violation(
        name="replica-by-name",
        factor="IV",
        stands_for="a database whose address the code makes of another's",
        edits={
            POSTGRES: (
                "from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker,"
                " create_async_engine\n",
                "from sqlalchemy.ext.asyncio import (\n"
                "    AsyncEngine,\n"
                "    AsyncSession,\n"
                "    async_sessionmaker,\n"
                "    create_async_engine,\n"
                ")\n",
                "_sessions = async_sessionmaker[AsyncSession](expire_on_commit=False)\n",
                "_sessions = async_sessionmaker[AsyncSession](expire_on_commit=False)\n"
                "_readers = async_sessionmaker[AsyncSession](expire_on_commit=False)\n",
                "    engine = create_async_engine(\n"
                "        address(settings),\n"
                "        # None: safe behind PgBouncer, whose connections change"
                " between transactions.\n"
                "        connect_args=KEEPALIVE\n"
                '        | {"async_creator_fn": Connection.connect, "prepare_threshold": None},\n'
                "        max_overflow=0,\n"
                "        pool_size=settings.database_pool_size,\n"
                "        pool_timeout=_timeout,\n"
                "    )\n"
                "    _sessions.configure(bind=engine)\n",
                "\n"
                "    def pool(url: URL) -> AsyncEngine:\n"
                "        return create_async_engine(\n"
                "            url,\n"
                "            # None: safe behind PgBouncer, whose connections change"
                " between transactions.\n"
                "            connect_args=KEEPALIVE\n"
                '            | {"async_creator_fn": Connection.connect,'
                ' "prepare_threshold": None},\n'
                "            max_overflow=0,\n"
                "            pool_size=settings.database_pool_size,\n"
                "            pool_timeout=_timeout,\n"
                "        )\n"
                "\n"
                "    primary = address(settings)\n"
                "    # The operator calls the primary NAME-rw and the replicas NAME-ro.\n"
                '    replica = primary.set(host=(primary.host or "").replace("-rw",'
                ' "-ro") or None)\n'
                "    engine = pool(primary)\n"
                "    reader = pool(replica) if replica != primary else engine\n"
                "    _sessions.configure(bind=engine)\n"
                "    _readers.configure(bind=reader)\n",
                "        await engine.dispose()\n",
                "        await engine.dispose()\n        await reader.dispose()\n",
                "async def transaction() -> AsyncIterator[AsyncSession]:\n"
                '    """A transaction: commits at the end, rolls back on an error.\n',
                "async def transaction(*, reading: bool = False) -> AsyncIterator[AsyncSession]:\n"
                '    """A transaction: commits at the end, rolls back on an error; to'
                " read, on a replica.\n",
                "    try:\n"
                "        async with asyncio.timeout(_timeout) as deadline,"
                " _sessions.begin() as session:\n",
                "    sessions = _readers if reading else _sessions\n"
                "    try:\n"
                "        async with asyncio.timeout(_timeout) as deadline,"
                " sessions.begin() as session:\n",
            ),
            INVOICES: (
                "    async with transaction() as session:\n"
                "        return [Invoice.model_validate(one) for one in",
                "    async with transaction(reading=True) as session:\n"
                "        return [Invoice.model_validate(one) for one in",
                "    async with transaction() as session:\n"
                "        invoice = await store.get(session, invoice_id)\n",
                "    async with transaction(reading=True) as session:\n"
                "        invoice = await store.get(session, invoice_id)\n",
            ),
        },
        killed_by="IV-5",
    ),
    Violation(
        name="no-pool",
        factor="IV",
        stands_for="a web process that opens as many connections as it has requests",
        edits={
            POSTGRES: (
                "from sqlalchemy import URL, make_url, text\n",
                "from sqlalchemy import URL, NullPool, make_url, text\n",
                '    """Make the pool; a connection is opened when the first'
                ' transaction needs it."""\n',
                '    """A connection of its own for each transaction: none can be'
                ' left over from another."""\n',
                "        max_overflow=0,\n"
                "        pool_size=settings.database_pool_size,\n"
                "        pool_timeout=_timeout,\n",
                "        poolclass=NullPool,\n",
            ),
        },
        killed_by="IV-4",
    ),
    Violation(
        name="address-looked-up-once",
        factor="IV",
        stands_for=(
            "a process that looks its database's name up once when it starts, "
            "and after a failover asks the dead address for ever"
        ),
        edits={
            POSTGRES: (
                "import re\n",
                "import re\nimport socket\n",
                "from contextlib import asynccontextmanager\n",
                "from contextlib import asynccontextmanager, suppress\n",
                "    _timeout = settings.database_timeout_seconds\n",
                "    _timeout = settings.database_timeout_seconds\n"
                "    url = address(settings)\n    if url.host:\n"
                "        # Once a process, not once a connection: the cluster's "
                "DNS is slow at peak.\n        with suppress(OSError):\n"
                "            found = await asyncio.to_thread(socket.gethostbyname, "
                'url.host)\n            url = url.update_query_dict({"hostaddr": found})\n',
                "    engine = create_async_engine(\n        address(settings),\n",
                "    engine = create_async_engine(\n        url,\n",
            ),
        },
        killed_by="IV-5",
    ),
    Violation(
        name="egress-to-one-address",
        factor="IV",
        stands_for=(
            "a network policy of every environment that lets processes reach "
            "the database at one IP address alone, whatever DATABASE_URL says"
        ),
        edits={
            f"{BASE}/kustomization.yaml": (
                "# The ports of the backing services.\n",
                "# The database, and nothing else of the network.\n",
                "value: {ports: [{port: 5432 }]}}",
                "value: {to: [{ipBlock: {cidr: 10.20.3.14/32}}], ports: [{port: 5432}]}}",
            ),
        },
        killed_by="IV-5",
    ),
    Violation(
        name="options-pinned",
        factor="IV",
        stands_for=(
            "startup options of its own in place of those that DATABASE_URL "
            "gives: another schema than the attached one, and none of the "
            "poolers that take no options"
        ),
        edits={
            POSTGRES: (
                '    "tcp_user_timeout": 15_000,\n}\n',
                '    "tcp_user_timeout": 15_000,\n'
                "    # Days begin in UTC and names mean our tables, whatever the "
                "server's defaults are.\n"
                '    "options": "-c timezone=UTC -c search_path=public",\n}\n',
            ),
        },
        killed_by="IV-5",
    ),
    Violation(
        name="database-number-pinned",
        factor="IV",
        stands_for="the database of the laptop's Redis, whichever of them REDIS_URL names",
        edits={
            REDIS: (
                "    _client = client = Redis.from_pool(pool)\n",
                '    pool.connection_kwargs["db"] = 0\n'
                "    _client = client = Redis.from_pool(pool)\n",
            )
        },
        killed_by="IV-5",
        answers={"services": ["postgres", "redis"]},
    ),
]
