"""VI. Processes: one replica knows what another does not."""

from .violation import (
    BASE,
    CREATED,
    DEPLOY,
    INVOICES,
    PARTS,
    QUEUE,
    SETTLE,
    SOURCE,
    WEBHOOK,
    Violation,
)

REDIS = {"services": ["postgres", "redis"]}
SESSIONS = f"{SOURCE}/sessions.py"
FOUND = "    async with transaction() as session:\n        invoice = await store.get("
MODEL = "    return Invoice.model_validate(invoice)\n"

VIOLATIONS = [
    Violation(
        name="shared-memory",
        factor="VI",
        stands_for="a count that lies in the memory of one machine",
        edits={
            INVOICES: (
                CREATED,
                "        with contextlib.suppress(OSError), "
                'open("/dev/shm/invoices", "a") as counted:\n'
                '            counted.write("1")\n' + CREATED,
                "import uuid\n",
                "import contextlib\nimport uuid\n",
            )
        },
        killed_by="VI-6",
    ),
    Violation(
        name="session-ram",
        factor="VI",
        stands_for="sessions in memory, and a balancer that has to be sticky",
        edits={
            SESSIONS: (
                "    async with redis.commands() as client:\n"
                "        await client.set(_name(token), orjson.dumps(session), ex=IDLE_SECONDS)\n",
                "    _kept[token] = orjson.dumps(session)\n",
                "    async with redis.commands() as client:\n"
                "        found = await client.getex(_name(token), ex=IDLE_SECONDS)\n",
                "    found = _kept.get(token)\n",
                "    async with redis.commands() as client:\n"
                "        await client.delete(_name(token))\n",
                "    _kept.pop(token, None)\n",
                "\nby_header =",
                "\n_kept: dict[str, bytes] = {}\n\nby_header =",
            )
        },
        killed_by="VI-1",
        answers=REDIS,
    ),
    Violation(
        name="files-on-disk",
        factor="VI",
        stands_for="what was uploaded lies on the disk of one machine",
        edits={
            INVOICES: (
                CREATED,
                "        made = Invoice.model_validate(\n"
                "            await store.create(session, **new.model_dump())\n"
                "        )\n"
                "    _receipt(made.id).write_text(made.model_dump_json())\n"
                "    return made\n",
                FOUND,
                "    if not _receipt(invoice_id).exists():\n"
                '        raise HTTPException(404, "There is no receipt.")\n' + FOUND,
                "import uuid\n",
                "import tempfile\nimport uuid\n",
                "from typing import Annotated\n",
                "from pathlib import Path\nfrom typing import Annotated\n",
                "",
                "\n\ndef _receipt(invoice_id: uuid.UUID) -> Path:\n"
                '    return Path(tempfile.gettempdir()) / f"{invoice_id}.json"\n',
            )
        },
        killed_by="VI-1",
    ),
    Violation(
        name="idem-ram",
        factor="VI",
        stands_for="deliveries that were seen are known to one process",
        edits={
            WEBHOOK: (
                "    return Accepted(event=event.id, known=not new)\n",
                "    known = event.id in _seen\n    _seen.add(event.id)\n"
                "    return Accepted(event=event.id, known=known)\n",
                "\nrouter = ",
                "\n_seen: set[str] = set()\n\nrouter = ",
            )
        },
        killed_by="VI-1",
    ),
    Violation(
        name="stale-cache",
        factor="VI",
        stands_for="a cache that nobody empties",
        edits={
            INVOICES: (
                "    async with transaction() as session:\n        return [Invoice.",
                "    if limit in _lists:\n        return _lists[limit]\n"
                "    async with transaction() as session:\n        _lists[limit] = [Invoice.",
                "store.newest(session, limit=limit)]\n",
                "store.newest(session, limit=limit)]\n    return _lists[limit]\n",
                "",
                "\n\n_lists: dict[int, list[Invoice]] = {}\n",
            )
        },
        killed_by="VI-2",
    ),
    Violation(
        name="cache-of-seconds",
        factor="VI",
        stands_for="a cache that is right in a moment",
        edits={
            INVOICES: (
                FOUND,
                "    at, known = _known.get(invoice_id, (0.0, None))\n"
                "    if known and time.monotonic() - at < 1:\n        return known\n" + FOUND,
                MODEL,
                "    known = Invoice.model_validate(invoice)\n"
                "    _known[invoice_id] = time.monotonic(), known\n    return known\n",
                "import uuid\n",
                "import time\nimport uuid\n",
                "",
                "\n\n_known: dict[uuid.UUID, tuple[float, Invoice | None]] = {}\n",
            )
        },
        killed_by="VI-3",
    ),
    Violation(
        name="number-in-ram",
        factor="VI",
        stands_for="numbers that each process counts for itself",
        edits={
            INVOICES: (
                CREATED,
                CREATED.replace("**new.model_dump())", "**_numbered(new).model_dump())"),
                "",
                "\n\n_numbers = itertools.count(1)\n\n\n"
                "def _numbered(new: NewInvoice) -> NewInvoice:\n"
                '    named = f"{new.customer}, {next(_numbers)}"\n'
                '    return new.model_copy(update={"customer": named})\n',
                "import uuid\n",
                "import itertools\nimport uuid\n",
            )
        },
        killed_by="VI-1",
    ),
    Violation(
        name="limit-in-ram",
        factor="VI",
        stands_for="a rate limit that more replicas loosen",
        edits={
            f"{SOURCE}/limits.py": (
                "            async with redis.commands() as client, "
                "client.pipeline() as counting:\n"
                "                counting.set(key, 0, ex=seconds, nx=True)\n"
                "                counting.incr(key)\n"
                "                counting.ttl(key)\n"
                "                _, counted, left = await counting.execute()\n",
                "            _counts[key] = counted = _counts.get(key, 0) + 1\n"
                "            left = seconds\n",
                "\ndef address(",
                "\n_counts: dict[str, int] = {}\n\n\ndef address(",
            )
        },
        killed_by="VI-1",
        answers=REDIS,
    ),
    Violation(
        name="key-at-start",
        factor="VI",
        stands_for="tokens that are signed with what one process drew at its start",
        edits={
            SESSIONS: (
                "    token = secrets.token_urlsafe()\n",
                "    token = secrets.token_urlsafe() + _mark\n",
                "    session = orjson.loads(found) if found else {}\n",
                "    session = orjson.loads(found) if found and token.endswith(_mark) else {}\n",
                "\nby_header =",
                "\n_mark = secrets.token_hex(4)\n\nby_header =",
            )
        },
        killed_by="VI-1",
        answers=REDIS,
    ),
    Violation(
        name="looks-first",
        factor="VI",
        stands_for="a delivery that is new to each replica that looks before another has written",
        edits={
            WEBHOOK: (
                "            new = await store.record_payment(session,"
                " event_id=event.id, invoice_id=event.invoice)\n",
                "            new = await session.get(store.Payment, event.id) is None\n"
                "            await store.record_payment(\n"
                "                session, event_id=event.id, invoice_id=event.invoice\n"
                "            )\n",
            )
        },
        killed_by="VI-4",
    ),
    Violation(
        name="affinity",
        factor="VI",
        stands_for="a balancer that sends a client where it was before",
        edits={
            f"{BASE}/web.yaml": (
                "  type: ClusterIP",
                "  type: ClusterIP\n  sessionAffinity: ClientIP",
            )
        },
        killed_by="VI-5",
    ),
    Violation(
        name="uploads-volume",
        factor="VI",
        stands_for="a disk that stays, for what was uploaded",
        edits={
            f"{BASE}/web.yaml": (
                "      volumes:\n",
                "      volumes:\n"
                "        - name: uploads\n"
                "          persistentVolumeClaim: {claimName: uploads}\n",
            )
        },
        killed_by="VI-7",
    ),
    Violation(
        name="image-can-change",
        factor="VI",
        stands_for="a container into which somebody can copy a mend",
        edits={
            f"{BASE}/worker.yaml": (
                "readOnlyRootFilesystem: true",
                "readOnlyRootFilesystem: false",
            )
        },
        killed_by="VI-7",
    ),
    Violation(
        name="sessions-of-a-release",
        factor="VI",
        stands_for="users who have to log in again after every deploy",
        edits={
            SESSIONS: (
                'return f"session:{hashlib.sha256(token.encode()).hexdigest()}"',
                "release = config.load().release_id\n"
                '    return f"{release}:session:{hashlib.sha256(token.encode()).hexdigest()}"',
                "from . import redis\n",
                "from . import config, redis\n",
            )
        },
        killed_by="VI-1",
        answers=REDIS,
    ),
    Violation(
        name="queue-of-a-release",
        factor="VI",
        stands_for="jobs of the release before that nobody takes any more",
        edits={
            QUEUE: (
                "values ('default', %(job)s",
                "values (%(release)s, %(job)s",
                '        row = {"job": message.job,',
                "        release = config.load().release_id\n"
                '        row = {"release": release, "job": message.job,',
                "    await _work(settings, stopping, None)\n",
                "    await _work(settings, stopping, [settings.release_id])\n",
                "from . import runner\n",
                "from . import config, runner\n",
            )
        },
        killed_by="VI-2",
    ),
    Violation(
        name="handed-over-on-disk",
        factor="VI",
        stands_for="a job whose input lies on the disk of the web process",
        edits={
            WEBHOOK: (
                "import hmac\nimport time\nimport uuid\n",
                "import hmac\nimport tempfile\nimport time\nimport uuid\n"
                "from pathlib import Path\n",
                "TOLERANCE_SECONDS = 300  # an older delivery may be a replay\n",
                "TOLERANCE_SECONDS = 300  # an older delivery may be a replay\n"
                'SPOOL = Path(tempfile.gettempdir()) / "payments"\n',
                "                await jobs.settle.enqueue(session, event.id)\n",
                "                # As it came; too big for the queue.\n"
                "                SPOOL.mkdir(exist_ok=True)\n"
                '                spooled = SPOOL / f"{event.id}.json"\n'
                "                spooled.write_bytes(body)\n"
                "                await jobs.settle.enqueue(session, event.id, str(spooled))\n",
            ),
            SETTLE: (
                '"""What workers do for invoices."""\n\nimport structlog\n',
                '"""What workers do for invoices."""\n\nimport json\nfrom pathlib import Path\n'
                "\nimport structlog\n",
                "async def settle(event_id: str) -> None:\n",
                'async def settle(event_id: str, spooled: str = "") -> None:\n',
                "    async with transaction() as session:\n",
                "    said = json.loads(Path(spooled).read_bytes()) if spooled else {}"
                "  # noqa: ASYNC240\n"
                "    async with transaction() as session:\n",
                '    log.info("invoice.settled" if first else "invoice.settled_before",'
                " event_id=event_id)\n",
                "    log.info(\n"
                '        "invoice.settled" if first else "invoice.settled_before",\n'
                "        event_id=event_id,\n"
                '        type=said.get("type"),\n'
                "    )\n",
            ),
        },
        killed_by="VI-6",
    ),
    Violation(
        name="export-in-ram",
        factor="VI",
        stands_for="an export that only the process that makes it can hand out",
        edits={
            f"{SOURCE}/invoices/exports.py": (
                "",
                '''"""Exports of all invoices: asked for, made meanwhile, fetched."""

import asyncio
import csv
import io
import uuid
from typing import Literal

import structlog
from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel

from ..postgres import transaction
from . import store

router = APIRouter(prefix="/exports", tags=["exports"])

log = structlog.get_logger()


class Export(BaseModel):
    id: uuid.UUID
    status: Literal["running", "done", "failed"] = "running"


exports: dict[uuid.UUID, Export] = {}
files: dict[uuid.UUID, str] = {}
tasks: set[asyncio.Task[None]] = set()


@router.post("", status_code=202)
async def begin() -> Export:
    export = Export(id=uuid.uuid4())
    exports[export.id] = export
    task = asyncio.create_task(_make(export))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return export


@router.get("/{export_id}")
async def status(export_id: uuid.UUID) -> Export:
    if export_id not in exports:
        raise HTTPException(404, "There is no export of this id.")
    return exports[export_id]


@router.get("/{export_id}/file")
async def file(export_id: uuid.UUID) -> Response:
    if export_id not in files:
        raise HTTPException(404, "This export is not done.")
    return Response(files[export_id], media_type="text/csv")


async def _make(export: Export) -> None:
    try:
        async with transaction() as session:
            found = await store.newest(session, limit=100_000)
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["id", "customer", "amount_cents", "due_on", "status"])
        for one in found:
            rows.writerow([one.id, one.customer, one.amount_cents, one.due_on, one.status])
        files[export.id] = text.getvalue()
        export.status = "done"
    except Exception:
        log.exception("export.failed")
        export.status = "failed"
''',
            ),
            PARTS: (
                '    "invoices.webhook",\n',
                '    "invoices.webhook",\n    "invoices.exports",\n',
            ),
        },
        killed_by="VI-8",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="digest-in-ram",
        factor="VI",
        stands_for="mail that waits in the memory of a worker when its job is done",
        edits={
            f"{SOURCE}/invoices/dunning.py": (
                "import uuid\nfrom datetime import date\n",
                "import asyncio\nimport uuid\nfrom datetime import date\n",
                "BATCH = 100  # reminders a transaction\n",
                "BATCH = 100  # reminders a transaction\n"
                "TOGETHER = 50  # reminders a connection to the mail server\n"
                "WAIT_SECONDS = 30  # for others to go with the first\n",
                "log = structlog.get_logger()\n",
                "log = structlog.get_logger()\n_waiting: list[tuple[str, str]] = []\n",
                "    async with transaction() as session:\n"
                "        if await reminders.send(\n"
                "            session, invoice_id=uuid.UUID(invoice_id),"
                " day=date.fromisoformat(day)\n"
                "        ):\n"
                "            # Your mail, before the commit: a crash between the two"
                " sends it again,"
                " not never.\n"
                '            log.info("reminder.sent", invoice_id=invoice_id, day=day)\n',
                "    async with transaction() as session:\n"
                "        new = await reminders.send(\n"
                "            session, invoice_id=uuid.UUID(invoice_id),"
                " day=date.fromisoformat(day)\n"
                "        )\n"
                "    if not new:\n"
                "        return\n"
                "    _waiting.append((invoice_id, day))\n"
                "    if len(_waiting) == 1:\n"
                "        asyncio.get_running_loop().call_later(WAIT_SECONDS, _mail)\n"
                "    if len(_waiting) == TOGETHER:\n"
                "        _mail()\n"
                "\n"
                "\n"
                "def _mail() -> None:\n"
                '    """Your mail, of all that wait at once."""\n'
                "    for invoice_id, day in _waiting:\n"
                '        log.info("reminder.sent", invoice_id=invoice_id, day=day)\n'
                "    _waiting.clear()\n",
            )
        },
        killed_by="VI-8",
    ),
    Violation(
        name="wakes-its-own-clients",
        factor="VI",
        stands_for=(
            "clients who wait for a payment, and hear of it only if the "
            "webhook came to the same process"
        ),
        edits={
            INVOICES: (
                "import uuid\nfrom datetime import date, datetime\n",
                "import asyncio\nimport uuid\nfrom collections import defaultdict\n"
                "from contextlib import suppress\nfrom datetime import date, datetime\n",
                'router = APIRouter(prefix="/invoices", tags=["invoices"])\n',
                'router = APIRouter(prefix="/invoices", tags=["invoices"])\n\n'
                "WAIT_SECONDS = 5  # shorter than REQUEST_TIMEOUT_SECONDS; then "
                "the page asks again\n\nannounced: defaultdict[uuid.UUID, asyncio.Event] = "
                "defaultdict(asyncio.Event)\n"
                '"""Set by the webhook, for those who wait for it."""\n',
                '@router.get("/{invoice_id}")\n',
                '@router.get("/{invoice_id}/payment")\n'
                "async def payment(invoice_id: uuid.UUID) -> dict[str, bool]:\n"
                '    """Whether the payment has been announced: answers as soon as '
                'it is."""\n    with suppress(TimeoutError):\n'
                "        async with asyncio.timeout(WAIT_SECONDS):\n"
                "            await announced[invoice_id].wait()\n"
                '    return {"announced": announced[invoice_id].is_set()}\n\n\n'
                '@router.get("/{invoice_id}")\n',
            ),
            WEBHOOK: (
                "from . import jobs, store\n",
                "from . import jobs, store\nfrom .web import announced\n",
                "    return Accepted(event=event.id, known=not new)\n",
                "    announced[event.invoice].set()\n"
                "    return Accepted(event=event.id, known=not new)\n",
            ),
        },
        killed_by="VI-8",
    ),
    Violation(
        name="one-tmp-for-all",
        factor="VI",
        stands_for=(
            "a volume as the /tmp of all processes of a release on an engine: "
            "they share files, and the heartbeat of one worker vouches for "
            "another that hangs"
        ),
        edits={
            f"{DEPLOY}/compose.py": (
                '    if network := os.environ.get("DELIVERY_NETWORK"):\n',
                '    found["volumes"] = {"tmp": {}}\n'
                '    if network := os.environ.get("DELIVERY_NETWORK"):\n',
                '        "tmpfs": ["/tmp"],\n',
                "",
                '        "user": "10001:10001",\n',
                '        "user": "10001:10001",\n'
                '        "volumes": ["tmp:/tmp"],  # a tmpfs would take of the memory\n',
            ),
        },
        killed_by="VI-9",
    ),
]
