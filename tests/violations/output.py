"""XI. Logs: something else than a stream of JSON events on standard output."""

from .violation import (
    BEFORE_SERVING,
    CREATED,
    DEPLOY,
    HEALTH,
    IMPORTS,
    INVOICES,
    LOGS,
    MAIN,
    MIDDLEWARE,
    PARTS,
    PROBLEMS,
    SETTLE,
    SOURCE,
    VERSIONS,
    WEB,
    WEBHOOK,
    WORKER,
    Violation,
)

RUNNER = f"{SOURCE}/runner.py"
HANDLERS = "    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)\n"
SAFE = 'SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")'
REFUSED = '        raise HTTPException(401, "The signature is'

# A stream that keeps what is written, and its place in the logs.
SAVING = (
    "structlog.BytesLoggerFactory(sys.stdout.buffer)",
    "structlog.BytesLoggerFactory(_Saving())",
)
SAVING_CLASS = (
    "class _Saving:\n    write = sys.stdout.buffer.write\n\n"
    "    def flush(self) -> None:\n        pass\n"
)

VIOLATIONS = [
    Violation(
        name="headers-in-log",
        factor="XI",
        stands_for="lines with the credentials of clients",
        edits={
            MIDDLEWARE: (
                "                status=status or None,",
                "                headers=str(scope['headers']),\n"
                "                status=status or None,",
            )
        },
        killed_by="XI-4",
    ),
    Violation(
        name="print",
        factor="XI",
        stands_for="print",
        edits={
            INVOICES: (
                CREATED,
                '        print("creating", new.customer, flush=True)\n' + CREATED,
            )
        },
        killed_by="XI-1",
    ),
    Violation(
        name="thread-print",
        factor="XI",
        stands_for="a thread of the worker that says that all is well",
        edits={
            WORKER: (
                "    resources.load(parts.JOBS)\n",
                "    threading.Thread(target=_well, daemon=True).start()\n"
                "    resources.load(parts.JOBS)\n",
                "from . import parts",
                "import threading\nimport time\n\nfrom . import parts",
                "",
                "\n\ndef _well() -> None:\n    while True:\n"
                '        print("worker is well", flush=True)\n        time.sleep(1)\n',
            )
        },
        killed_by="XI-1",
    ),
    Violation(
        name="uvicorn-text",
        factor="XI",
        stands_for="the server's own lines, as text",
        edits={WEB: ("        log_config=None,\n", "")},
        killed_by="XI-1",
    ),
    Violation(
        name="stderr-trace",
        factor="XI",
        stands_for="a traceback on stderr when a service is away",
        edits={
            PROBLEMS: (
                '    structlog.get_logger().warning("resource.unavailable"',
                "    traceback.print_exception(error)\n"
                '    structlog.get_logger().warning("resource.unavailable"',
                "from collections.abc",
                "import traceback\nfrom collections.abc",
            )
        },
        killed_by="XI-1",
    ),
    Violation(
        name="boot-text",
        factor="XI",
        stands_for="bad settings told as text",
        edits={
            MAIN: (
                '        log.error("settings.invalid", hint=',
                '        print(f"Set these: {error}", file=sys.stderr)\n        dict(hint=',
            )
        },
        killed_by="XI-1",
    ),
    Violation(
        name="crash-text",
        factor="XI",
        stands_for="a crash that Python tells in its own way",
        edits={LOGS: ("    sys.excepthook = _crash\n", "")},
        killed_by="XI-1",
    ),
    Violation(
        name="many-lines",
        factor="XI",
        stands_for="JSON that a person reads well",
        edits={LOGS: ("orjson.OPT_UTC_Z)", "orjson.OPT_UTC_Z | orjson.OPT_INDENT_2)")},
        killed_by="XI-1",
    ),
    Violation(
        name="stream-handler",
        factor="XI",
        stands_for="what libraries say, said twice",
        edits={LOGS: ("handlers=[_Forward()]", "handlers=[_Forward(), logging.StreamHandler()]")},
        killed_by="XI-1",
    ),
    Violation(
        name="buffered",
        factor="XI",
        stands_for="lines that come when the buffer is full",
        edits={
            LOGS: (
                *SAVING,
                "class _Forward(",
                f"{SAVING_CLASS}\n\nclass _Forward(",
            )
        },
        killed_by="XI-3",
    ),
    Violation(
        name="file",
        factor="XI",
        stands_for="a rotating file, where one can be written",
        edits={
            LOGS: (
                HANDLERS,
                HANDLERS
                + "    with suppress(OSError):\n"
                + '        logging.getLogger().addHandler(RotatingFileHandler("app.log"))\n',
                "import warnings\n",
                "import warnings\nfrom contextlib import suppress\n",
                "from types import",
                "from logging.handlers import RotatingFileHandler\nfrom types import",
            )
        },
        killed_by="XI-5",
    ),
    Violation(
        name="file-in-tmp",
        factor="XI",
        stands_for="a copy of every line below /tmp",
        edits={
            LOGS: (
                "    return orjson.dumps(line,",
                "    with (Path(tempfile.gettempdir()) / 'app.log').open('a') as file:\n"
                "        file.write(repr(line))\n    return orjson.dumps(line,",
                "import threading\n",
                "import tempfile\nimport threading\n",
                "from types import",
                "from pathlib import Path\nfrom types import",
            )
        },
        killed_by="XI-5",
    ),
    Violation(
        name="log-socket",
        factor="XI",
        stands_for="sends its lines to a collector itself",
        edits={
            LOGS: (
                HANDLERS,
                HANDLERS + "    logging.getLogger().addHandler(SocketHandler('127.0.0.1', 9020))\n",
                "from types import",
                "from logging.handlers import SocketHandler\nfrom types import",
            )
        },
        killed_by="XI-5s",
    ),
    Violation(
        name="no-rid",
        factor="XI",
        stands_for="a request without an id",
        edits={
            MIDDLEWARE: ('[*message.get("headers", ()), header]', '[*message.get("headers", ())]')
        },
        killed_by="XI-2",
    ),
    Violation(
        name="rid-not-on-lines",
        factor="XI",
        stands_for="an id that the client gets and the log has not",
        edits={
            MIDDLEWARE: (
                "bind_contextvars(request_id=request_id, **trace)",
                "bind_contextvars(**trace)",
            )
        },
        killed_by="XI-2",
    ),
    Violation(
        name="rid-not-to-worker",
        factor="XI",
        stands_for="jobs that do not know their request",
        edits={RUNNER: ('TRAVELS = ("request_id", "traceparent")', 'TRAVELS = ("traceparent",)')},
        killed_by="XI-2",
    ),
    Violation(
        name="rid-injection",
        factor="XI",
        stands_for="an id that a client may make of anything",
        edits={MIDDLEWARE: (SAFE, 'SAFE_ID = re.compile(rb".{1,128}")')},
        killed_by="XI-2",
    ),
    Violation(
        name="rid-counter",
        factor="XI",
        stands_for="ids that each process counts from 1",
        edits={
            MIDDLEWARE: (
                "return request_id or secrets.token_hex(16), trace, length",
                'return request_id or f"{next(_count):08d}", trace, length',
                "",
                "\n\n_count = itertools.count(1)\n",
                "import asyncio\n",
                "import asyncio\nimport itertools\n",
                "import secrets\n",
                "",
            )
        },
        killed_by="XI-2",
    ),
    Violation(
        name="secret",
        factor="XI",
        stands_for="logs the URL of the database",
        edits={
            WEB: (
                BEFORE_SERVING,
                '    log.info("web.starting", database=settings.database_url.get_secret_value())\n'
                + BEFORE_SERVING,
            )
        },
        killed_by="XI-4",
    ),
    Violation(
        name="secret-in-failure",
        factor="XI",
        stands_for="a refusal that says what would have been right",
        edits={
            WEBHOOK: (
                REFUSED,
                "        secret = settings.webhook_secret.get_secret_value()\n"
                '        structlog.get_logger().warning("webhook.refused", secret=secret)\n'
                + REFUSED,
                "from fastapi",
                "import structlog\nfrom fastapi",
            )
        },
        killed_by="XI-4",
    ),
    Violation(
        name="secret-at-debug",
        factor="XI",
        stands_for="all settings, at DEBUG",
        edits={
            WEB: (
                BEFORE_SERVING,
                '    log.debug("web.settings", **settings.model_dump(),\n'
                "              secret=settings.webhook_secret.get_secret_value())\n"
                + BEFORE_SERVING,
            )
        },
        killed_by="XI-4",
    ),
    Violation(
        name="secret-in-answer",
        factor="XI",
        stands_for="an error that names the address and the password",
        edits={
            SETTLE.replace("jobs.py", "webhook.py"): (
                '"The signature is not the provider\'s, or is too old."',
                'f"Not signed with {settings.webhook_secret.get_secret_value()}."',
            )
        },
        killed_by="XI-4",
    ),
    Violation(
        name="no-trace",
        factor="XI",
        stands_for="a trace that ends at the queue",
        edits={RUNNER: ('TRAVELS = ("request_id", "traceparent")', 'TRAVELS = ("request_id",)')},
        killed_by="XI-6",
    ),
    Violation(
        name="native-stderr",
        factor="XI",
        stands_for="a line past Python's streams",
        edits={
            SETTLE: (
                "    async with transaction() as session:\n",
                '    os.write(2, b"settling\\n")\n    async with transaction() as session:\n',
                IMPORTS,
                "\nimport os\n\nimport structlog\n",
            )
        },
        killed_by="XI-1",
    ),
    Violation(
        name="flushed-at-times",
        factor="XI",
        stands_for="lines that come every eight seconds",
        edits={
            LOGS: (
                *SAVING,
                "class _Forward(",
                f"{SAVING_CLASS}\n"
                "    def __init__(self) -> None:\n"
                "        threading.Thread(target=self.often, daemon=True).start()\n\n"
                "    def often(self) -> None:\n        while True:\n"
                "            time.sleep(8)\n            sys.stdout.buffer.flush()\n\n\n"
                "class _Forward(",
                "import threading\n",
                "import threading\nimport time\n",
            )
        },
        killed_by="XI-3",
    ),
    Violation(
        name="file-by-another-name",
        factor="XI",
        stands_for="a file where nobody looks for one, where one can be written",
        edits={
            INVOICES: (
                CREATED,
                "        with suppress(OSError):\n"
                '            getattr(Path("/var/tmp/last"), "write_" + "text")(new.customer)\n'
                + CREATED,
                "import uuid\n",
                "import uuid\nfrom contextlib import suppress\n",
                "from datetime import date, datetime\n",
                "from datetime import date, datetime\nfrom pathlib import Path\n",
            )
        },
        killed_by="XI-5",
    ),
    Violation(
        name="query-logged",
        factor="XI",
        stands_for="lines with the whole address, and the token that stands in it",
        edits={
            MIDDLEWARE: (
                "                path=path,\n",
                "                path=f\"{path}?{scope['query_string'].decode()}\",\n",
            )
        },
        killed_by="XI-4",
    ),
    Violation(
        name="local-time",
        factor="XI",
        stands_for="times that mean something on the machine alone",
        edits={
            LOGS: (
                "datetime.now(UTC)",
                "datetime.now()",
                "from datetime import UTC, datetime",
                "from datetime import datetime",
            )
        },
        killed_by="XI-1",
    ),
    Violation(
        name="address-in-version",
        factor="XI",
        stands_for="an address of the database for whoever asks /version",
        edits={
            HEALTH: (
                'return JSONResponse({"revision": state.revision, "release": state.release})',
                "url = request.app.state.settings.database_url.get_secret_value()\n"
                '    said = {"revision": state.revision, "release": state.release, "db": url}\n'
                "    return JSONResponse(said)",
            )
        },
        killed_by="XI-4",
    ),
    Violation(
        name="rid-of-the-last",
        factor="XI",
        stands_for="ids that are mixed up as soon as two requests come at once",
        edits={
            LOGS: (
                "_identity: dict[str, str] = {}\n",
                "_identity: dict[str, str] = {}\n"
                "\n\n"
                "def about(request_id: str) -> None:\n"
                '    """Put this id on every line, those of threads too, which have no'
                ' context."""\n'
                "    _identity.update(request_id=request_id)\n",
            ),
            MIDDLEWARE: (
                "from .problems import problem\n",
                "from . import logs\nfrom .problems import problem\n",
                "        structlog.contextvars.bind_contextvars(request_id=request_id, **trace)\n",
                "        structlog.contextvars.bind_contextvars(request_id=request_id, **trace)\n"
                "        logs.about(request_id)\n",
            ),
        },
        killed_by="XI-2",
    ),
    Violation(
        name="sampled",
        factor="XI",
        stands_for="lines that are dropped as soon as there are many",
        edits={
            LOGS: (
                "import threading\n",
                "import threading\nimport time\n",
                "import warnings\n",
                "import warnings\nfrom collections import Counter\n",
                "            structlog.processors.format_exc_info,\n",
                "            structlog.processors.format_exc_info,\n            _Sample(),\n",
                "class _Forward(logging.Handler):\n",
                "class _Sample:\n"
                '    """The first 20 of an event in a second, then each hundredth: lines cost'
                ' money."""\n'
                "\n"
                "    def __init__(self) -> None:\n"
                "        self.second = 0\n"
                "        self.seen: Counter[str] = Counter()\n"
                "\n"
                "    def __call__(self, _: WrappedLogger, level: str, event: EventDict)"
                " -> EventDict:\n"
                "        if (now := int(time.monotonic())) != self.second:\n"
                "            self.second, self.seen = now, Counter()\n"
                '        self.seen[event["event"]] += 1\n'
                '        seen = self.seen[event["event"]]\n'
                '        if level in ("debug", "info") and seen > 20 and seen % 100:\n'
                "            raise structlog.DropEvent\n"
                "        return event\n"
                "\n\n"
                "class _Forward(logging.Handler):\n",
            )
        },
        killed_by="XI-2",
    ),
    Violation(
        name="nobody-collects",
        factor="XI",
        stands_for="an environment that throws the lines away",
        edits={
            f"{DEPLOY}/compose.py": (
                '        "logging": {"driver": "local"},  # rotates by itself\n',
                '        "logging": {"driver": "none"},  # they have filled the disk\n',
            )
        },
        killed_by="XI-7",
    ),
    Violation(
        name="log-page",
        factor="XI",
        stands_for="a page of the last lines, of one process and for everybody",
        edits={
            LOGS: (
                "import logging\nimport sys\nimport threading\nimport warnings\n"
                "from datetime import UTC, datetime\n",
                "import logging\nimport sys\nimport threading\nimport warnings\n"
                "from collections import deque\nfrom datetime import UTC, datetime\n",
                "_identity: dict[str, str] = {}\n",
                "_identity: dict[str, str] = {}\n\nRECENT: deque[bytes] = deque(maxlen=2000)\n",
                "    return orjson.dumps(line, default=repr, "
                "option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)\n",
                "    made = orjson.dumps(line, default=repr, "
                "option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)\n"
                "    RECENT.append(made)\n"
                "    return made\n",
            ),
            f"{SOURCE}/routes.py": (
                '"""Your routes."""\n\nfrom fastapi import APIRouter\n\nrouter = APIRouter()\n',
                '''"""Your routes."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from . import logs

router = APIRouter()


@router.get("/logs")
async def recent(limit: Annotated[int, Query(ge=1, le=2000)] = 200) -> Response:
    """The last lines, so that nobody has to log in to the machine."""
    lines = list(logs.RECENT)[-limit:]
    return Response(b"\\n".join(lines) + b"\\n", media_type="application/x-ndjson")
''',
            ),
        },
        killed_by="XI-2",
    ),
    Violation(
        name="failures-in-table",
        factor="XI",
        stands_for="exceptions that are kept in the database in place of the stream",
        edits={
            f"{SOURCE}/failures.py": (
                "",
                '''"""What failed unexpectedly, kept for whoever looks after it."""

import traceback
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Text, func, insert
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TIMESTAMP

from .postgres import Base, transaction


class Failure(Base):
    __tablename__ = "failures"

    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(index=True)
    path: Mapped[str]
    trace: Mapped[str] = mapped_column(Text)
    happened_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.now()
    )


async def keep(request_id: str, path: str, error: Exception) -> None:
    """Keep a failed request: a table can be searched, counted and ticked off."""
    trace = "".join(traceback.format_exception(error)).replace("\\0", "")
    with suppress(Exception):  # a failure to keep a failure is none of the client's
        async with transaction() as session:
            values = {"request_id": request_id, "path": path.replace("\\0", ""), "trace": trace}
            await session.execute(insert(Failure).values(values))
''',
            ),
            f"{VERSIONS}/service_0001.py": (
                "",
                '''"""What failed unexpectedly."""

import sqlalchemy as sa
from alembic import op

revision = "service_0001"
down_revision = None
branch_labels = ("service",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "failures",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("request_id", sa.String(), index=True, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column(
            "happened_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
    )
''',
            ),
            PARTS: (
                '    "invoices.reminders",\n',
                '    "invoices.reminders",\n    "failures",\n',
            ),
            MIDDLEWARE: (
                "from .problems import problem\n",
                "from . import failures\nfrom .problems import problem\n",
                "        except Exception:\n"
                "            # The application has answered with 500 already; this is"
                " the place that "
                "logs it.\n"
                '            log.exception("request.failed")\n',
                "        except Exception as error:\n"
                "            # The application has answered with 500 already; the trace is kept.\n"
                '            await failures.keep(request_id, scope["path"], error)\n',
            ),
        },
        killed_by="XI-8",
    ),
    Violation(
        name="lines-each-second",
        factor="XI",
        stands_for="lines that are gathered, and go out once a second",
        edits={
            LOGS: (
                "import logging\nimport sys\nimport threading\nimport warnings\n",
                "import atexit\nimport logging\nimport sys\nimport threading\nimport time\n"
                "import warnings\n",
                "structlog.BytesLoggerFactory(sys.stdout.buffer)",
                "structlog.BytesLoggerFactory(_Gathered())",
                "class _Forward(",
                """class _Gathered:
    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        atexit.register(self.send)
        threading.Thread(target=self.serve, daemon=True).start()

    def write(self, line: bytes) -> None:
        self.waiting.append(line)

    def flush(self) -> None:
        pass

    def serve(self) -> None:
        while True:
            time.sleep(1)
            self.send()

    def send(self) -> None:
        waiting, self.waiting = self.waiting, []
        sys.stdout.buffer.write(b"".join(waiting))
        sys.stdout.buffer.flush()


class _Forward(""",
            )
        },
        killed_by="XI-3",
    ),
    Violation(
        name="id-of-first-attempt",
        factor="XI",
        stands_for="a job that no longer says who asked for it once it is tried again",
        edits={
            f"{SOURCE}/runner.py": (
                "            **context, job=self.name",
                "            **(context if attempt == 1 else {}), job=self.name",
            )
        },
        killed_by="XI-9",
    ),
    Violation(
        name="json-by-hand",
        factor="XI",
        stands_for=(
            "access lines put together as text: a quote or a line break in a "
            "path makes no JSON, or a forged line"
        ),
        edits={
            LOGS: (
                "    line = {**first, **event, **_identity}\n",
                "    line = {**first, **event, **_identity}\n"
                '    if line["event"] == "request":  # by far the most lines: '
                "formatting costs less than encoding\n"
                '        line["ts"] = f"{first[\'ts\']:%Y-%m-%dT%H:%M:%S.%fZ}"\n'
                '        pairs = ",".join(f\'"{name}":{_value(value)}\' for name, '
                'value in line.items())\n        return f"{{{pairs}}}".encode()\n',
                "class _Forward(logging.Handler):\n",
                "def _value(value: object) -> str:\n    if value is None:\n"
                '        return "null"\n'
                "    return str(value) if isinstance(value, int | float) else "
                "f'\"{value}\"'\n\n\nclass _Forward(logging.Handler):\n",
            ),
        },
        killed_by="XI-1",
    ),
    Violation(
        name="id-on-frame-only",
        factor="XI",
        stands_for=(
            "jobs that begin and end under their request's id, and say nothing "
            "of it on the lines in between"
        ),
        edits={
            f"{SOURCE}/runner.py": (
                "        structlog.contextvars.bind_contextvars(\n"
                "            **context, job=self.name, job_id=job_id, attempt=attempt\n"
                "        )\n",
                "        # On a logger of its own: what lies in the context could "
                "leak into the next job.\n"
                "        own = log.bind(**context, job=self.name, job_id=job_id, "
                "attempt=attempt)\n",
                '        log.info("job.started")\n',
                '        own.info("job.started")\n',
                '            log.warning("job.returned", reason="the worker stops")\n',
                '            own.warning("job.returned", reason="the worker stops")\n',
                '            log.exception("job.failed" if attempt >= '
                'self.attempts else "job.retried")\n',
                '            own.exception("job.failed" if attempt >= '
                'self.attempts else "job.retried")\n',
                '        log.info("job.done", ',
                '        own.info("job.done", ',
            ),
        },
        killed_by="XI-2",
    ),
    Violation(
        name="tail-over-ssh",
        factor="XI",
        stands_for=(
            "logs of production that are read by ssh and tail on each host, by "
            "a script and the runbook"
        ),
        edits={
            "bin/logs": (
                "",
                "#!/bin/sh\n"
                "# Follows the log of production: bin/logs, or bin/logs REQUEST-ID "
                "to see one request alone.\nset -eu\n"
                "for host in ${HOSTS:-app-1.example.org app-2.example.org "
                "app-3.example.org}; do\n"
                '    ssh "deploy@$host" "sudo sh -c \'tail -n 1000 -F '
                "/var/lib/docker/containers/*/*-json.log'\" |\n"
                '        grep --line-buffered -e "${1:-}" |\n'
                '        sed -u "s/^/$host /" &\ndone\nwait\n',
            ),
            f"{DEPLOY}/compose.py": (
                '        "logging": {"driver": "local"},  # rotates by itself\n',
                "        # bin/logs tails these files on each host.\n"
                '        "logging": {"driver": "json-file", "options": '
                '{"max-size": "50m"}},\n',
            ),
            "docs/runbook.md": (
                "",
                "\n## Read the logs\n\n"
                "`sh bin/logs` logs in to every host of production by ssh and "
                "tails the files of its containers;\n"
                "`sh bin/logs REQUEST-ID` shows the lines of one request. You need "
                "an account on each host with the\n"
                "right to use sudo: ask the operators. The lines are kept nowhere "
                "else. Before a deploy, or before a\n"
                "host is replaced, copy what you still need: the files go with "
                "their containers.\n",
            ),
        },
        killed_by="XI-5s",
    ),
]
