"""I. Codebase: what runs does not say which commit it is."""

from .violation import (
    BASE,
    CREATED,
    DELIVERY,
    DEPLOY,
    HEALTH,
    INVOICES,
    LOGS,
    MAIN,
    MIGRATION,
    PARTS,
    RELEASE,
    SETTLE,
    SOURCE,
    VERSIONS,
    WEB,
    WEBHOOK,
    Violation,
)

VIOLATIONS = [
    Violation(
        name="any-branch",
        factor="I",
        stands_for="whatever somebody pushes, delivered",
        edits={DELIVERY: ("    branches: [main]\n", "    paths: [src/**]\n")},
        killed_by="I-4",
    ),
    Violation(
        name="commit-const",
        factor="I",
        stands_for="a version written by hand",
        edits={WEB: ("health.State(revision=settings.revision,", 'health.State(revision="1.4.2",')},
        killed_by="I-1",
    ),
    Violation(
        name="line-without-commit",
        factor="I",
        stands_for="log lines that only name the release",
        edits={LOGS: ("settings.release_id, revision=settings.revision)", "settings.release_id)")},
        killed_by="I-1",
    ),
    Violation(
        name="worker-anonymous",
        factor="I",
        stands_for="a worker that nobody can tell from last month's",
        edits={
            MAIN: (
                "    logs.identify(settings)\n",
                '    if process == "web":\n        logs.identify(settings)\n',
            )
        },
        killed_by="I-1",
    ),
    Violation(
        name="commit-from-git",
        factor="I",
        stands_for="a version that is read from wherever the process happens to lie",
        edits={
            HEALTH: (
                '{"revision": state.revision,',
                '{"revision": _head() or state.revision,',
                "",
                "\n\ndef _head() -> str:\n"
                '    head = Path(".git/refs/heads/main")\n'
                '    return head.read_text().strip() if head.exists() else ""\n',
                "from dataclasses import dataclass\n",
                "from dataclasses import dataclass\nfrom pathlib import Path\n",
            )
        },
        killed_by="I-1",
    ),
    Violation(
        name="second-app",
        factor="I",
        stands_for="another service that grows in the same repository",
        edits={"billing/pyproject.toml": ("", '[project]\nname = "billing"\nversion = "0"\n')},
        killed_by="I-3",
    ),
    Violation(
        name="staging-branch",
        factor="I",
        stands_for="a branch whose merge is what reaches staging",
        edits={DELIVERY: ("branches: [main]", "branches: [main, staging]")},
        killed_by="I-4",
    ),
    Violation(
        name="version-of-the-database",
        factor="I",
        stands_for="a version that says what was released last, whoever answers",
        edits={
            f"{SOURCE}/deployments.py": (
                "",
                '"""What was released to this database, and when."""\n'
                "\n"
                "from datetime import datetime\n"
                "\n"
                "from sqlalchemy import Connection, func, select\n"
                "from sqlalchemy.dialects.postgresql import insert as upsert\n"
                "from sqlalchemy.ext.asyncio import AsyncSession\n"
                "from sqlalchemy.orm import Mapped, mapped_column\n"
                "from sqlalchemy.types import TIMESTAMP\n"
                "\n"
                "from .config import Settings\n"
                "from .postgres import Base\n"
                "\n"
                "\n"
                "class Deployment(Base):\n"
                '    __tablename__ = "deployments"\n'
                "\n"
                "    release: Mapped[str] = mapped_column(primary_key=True)\n"
                "    revision: Mapped[str]\n"
                "    at: Mapped[datetime] = mapped_column("
                "TIMESTAMP(timezone=True), server_default=func.now())\n"
                "\n"
                "\n"
                "def note(connection: Connection, settings: Settings) -> None:\n"
                '    """Keep which release is current, for whoever asks."""\n'
                "    values = {\n"
                '        "release": settings.release_id,\n'
                '        "revision": settings.revision,\n'
                '        "at": func.now(),\n'
                "    }\n"
                "    statement = upsert(Deployment).values(values)\n"
                "    connection.execute("
                'statement.on_conflict_do_update(index_elements=["release"], set_=values))\n'
                "    connection.commit()\n"
                "\n"
                "\n"
                "async def current(session: AsyncSession) -> Deployment:\n"
                "    query = select(Deployment).order_by(Deployment.at.desc()).limit(1)\n"
                "    return (await session.scalars(query)).one()\n",
            ),
            f"{VERSIONS}/invoices_0003.py": (
                "",
                '"""What was released, and when."""\n' + MIGRATION + "\n"
                "\n"
                "def upgrade() -> None:\n"
                "    op.create_table(\n"
                '        "deployments",\n'
                '        sa.Column("release", sa.String(), primary_key=True),\n'
                '        sa.Column("revision", sa.String(), nullable=False),\n'
                '        sa.Column("at", sa.TIMESTAMP(timezone=True),'
                " server_default=sa.func.now(), nullable=False),\n"
                "    )\n",
            ),
            PARTS: (
                '    "invoices.reminders",\n',
                '    "invoices.reminders",\n    "deployments",\n',
            ),
            RELEASE: (
                "from . import postgres\n",
                "from . import deployments, postgres\n",
                '            log.info("release.migrated", before=before,'
                " after=_revisions(connection))\n",
                '            log.info("release.migrated", before=before,'
                " after=_revisions(connection))\n"
                "            deployments.note(connection, settings)\n",
            ),
            HEALTH: (
                "from . import parts, resources\n",
                "from . import deployments, parts, resources\nfrom .postgres import transaction\n",
                "async def version(request: Request) -> JSONResponse:\n"
                "    state: State = request.app.state.health\n"
                '    return JSONResponse({"revision": state.revision,'
                ' "release": state.release})\n',
                "async def version() -> JSONResponse:\n"
                "    async with transaction() as session:\n"
                "        current = await deployments.current(session)\n"
                '    return JSONResponse({"revision": current.revision,'
                ' "release": current.release})\n',
            ),
        },
        killed_by="I-1",
    ),
    Violation(
        name="hotfix-mount",
        factor="I",
        stands_for="a folder of the cluster from which code gets into the process, uncommitted",
        edits={
            f"{BASE}/web.yaml": (
                "            # Here, beside the port that it must equal.\n",
                "            # For a mend at night: kubectl create configmap hotfix"
                " --from-file=sitecustomize.py,\n"
                "            # then kubectl rollout restart.\n"
                "            - name: PYTHONPATH\n"
                "              value: /hotfix\n"
                "            # Here, beside the port that it must equal.\n",
                "            - name: tmp\n"
                "              mountPath: /tmp\n"
                "      volumes:\n"
                "        - name: tmp\n"
                "          emptyDir:\n"
                "            sizeLimit: 64Mi\n",
                "            - name: tmp\n"
                "              mountPath: /tmp\n"
                "            - name: hotfix\n"
                "              mountPath: /hotfix\n"
                "              readOnly: true\n"
                "      volumes:\n"
                "        - name: tmp\n"
                "          emptyDir:\n"
                "            sizeLimit: 64Mi\n"
                "        - name: hotfix\n"
                "          configMap:\n"
                "            name: hotfix\n"
                "            optional: true\n",
            )
        },
        killed_by="I-2",
    ),
    Violation(
        name="production-repo",
        factor="I",
        stands_for="production has a repository of its own",
        edits={
            DELIVERY: (
                "          persist-credentials: false\n      - uses: actions/download-artifact",
                "          persist-credentials: false\n"
                "          # Production's own manifests and scripts: only operations"
                " may push there.\n"
                "          repository: example/invoiceflow-production\n"
                "          token: ${{ secrets.PRODUCTION_REPOSITORY_TOKEN }}\n"
                "      - uses: actions/download-artifact",
                '    environment: {name: production, url: "${{ vars.PUBLIC_URL }}"}\n'
                "    concurrency: {group: production, cancel-in-progress: false}\n"
                "    permissions:\n"
                "      contents: read\n"
                "    steps:\n"
                "      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1\n"
                "        with:\n"
                "          persist-credentials: false\n",
                '    environment: {name: production, url: "${{ vars.PUBLIC_URL }}"}\n'
                "    concurrency: {group: production, cancel-in-progress: false}\n"
                "    permissions:\n"
                "      contents: read\n"
                "    steps:\n"
                "      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1\n"
                "        with:\n"
                "          persist-credentials: false\n"
                "          repository: example/invoiceflow-production\n"
                "          token: ${{ secrets.PRODUCTION_REPOSITORY_TOKEN }}\n",
            ),
        },
        killed_by="I-2",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="code-in-database",
        factor="I",
        stands_for="a rule whose code is changed in the database, past the repository",
        edits={
            f"{SOURCE}/invoices/fees.py": (
                "",
                '''"""Fees of late invoices, by a rule that is kept in the database."""

import uuid
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, StringConstraints
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from ..postgres import Base, transaction
from . import store

router = APIRouter(prefix="/fees", tags=["fees"])

LATE = """
def fee(amount_cents, days):
    return amount_cents * days // 10_000
"""


class Rule(Base):
    __tablename__ = "rules"

    name: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]


class NewRule(BaseModel):
    source: Annotated[str, StringConstraints(max_length=5000, pattern=r"^[^\\x00]*$")]


class Fee(BaseModel):
    cents: int


@router.put("/late", status_code=204)
async def change(new: NewRule) -> None:
    """Correct the rule at once."""
    try:
        compile(new.source, "late", "exec")
    except SyntaxError:
        raise HTTPException(422, "The rule is not valid Python.") from None
    async with transaction() as session:
        statement = upsert(Rule).values(name="late", source=new.source)
        await session.execute(
            statement.on_conflict_do_update(index_elements=["name"], set_={"source": new.source})
        )


@router.get("/late/{invoice_id}")
async def late(invoice_id: uuid.UUID) -> Fee:
    async with transaction() as session:
        invoice = await store.get(session, invoice_id)
        rule = await session.get(Rule, "late")
    if invoice is None:
        raise HTTPException(404, "There is no invoice of this id.")
    names: dict[str, Any] = {}
    exec(rule.source if rule else LATE, names)  # noqa: S102
    days = max(0, (date.today() - invoice.due_on).days)
    return Fee(cents=names["fee"](invoice.amount_cents, days))
''',
            ),
            f"{SOURCE}/migrations/versions/invoices_0003.py": (
                "",
                '''"""Rules that are changed without a deploy."""

import sqlalchemy as sa
from alembic import op

revision = "invoices_0003"
down_revision = "invoices_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rules",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("source", sa.String(), nullable=False),
    )
''',
            ),
            PARTS: (
                '    "invoices.reminders",\n',
                '    "invoices.reminders",\n    "invoices.fees",\n',
                '    "invoices.webhook",\n',
                '    "invoices.webhook",\n    "invoices.fees",\n',
            ),
        },
        killed_by="I-2",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="ignored-module",
        factor="I",
        stands_for="a module that .gitignore keeps out of every commit",
        edits={
            ".gitignore": (
                "",
                "\n# Python: what builds leave behind.\n"
                "build/\ndevelop-eggs/\neggs/\nlib/\nlib64/\nsdist/\nvar/\nwheels/\n*.egg-info/\n",
            ),
            f"{SOURCE}/lib/__init__.py": ("", '"""Small helpers."""\n'),
            f"{SOURCE}/lib/text.py": (
                "",
                '"""Text as people type it."""\n'
                "\n"
                "\n"
                "def tidy(text: str) -> str:\n"
                '    """Without the spaces that copying leaves at the ends of a name."""\n'
                "    return text.strip() or text\n",
            ),
            INVOICES: (
                "from ..postgres import transaction\n",
                "from ..lib import text\nfrom ..postgres import transaction\n",
                CREATED,
                '        values = new.model_dump() | {"customer": text.tidy(new.customer)}\n'
                "        return Invoice.model_validate(await store.create(session, **values))\n",
            ),
        },
        killed_by="I-2",
    ),
    Violation(
        name="worker-image",
        factor="I",
        stands_for="workers that have an image of their own, of another commit than web's",
        edits={
            f"{BASE}/kustomization.yaml": (
                "    newName: ghcr.io/example/invoiceflow\n",
                "    newName: ghcr.io/example/invoiceflow\n"
                "  - name: worker\n"
                "    newName: ghcr.io/example/invoiceflow-worker\n"
                "    digest:"
                " sha256:4be1a2a1d6b3a0c7f3f4f0a9f1b1d5f0c2f6d6c8a3b9e7d5c1f0e2d4b6a8c0e2\n",
            ),
            f"{BASE}/worker.yaml": ("          image: service\n", "          image: worker\n"),
            f"{DEPLOY}/kubernetes.py": (
                "        if not named or used != {image}:\n",
                "        if not named or image not in used:\n",
            ),
        },
        killed_by="I-3",
    ),
    Violation(
        name="commit-of-the-runner",
        factor="I",
        stands_for="an image of a commit that was made in the pipeline and is gone with it",
        edits={
            DELIVERY: (
                "      - id: build\n        run: |\n",
                "      # The version by date that support asks for.\n"
                "      - run: |\n"
                '          printf \'\\n__version__ = "%s"\\n\' "$(date +%Y.%m.%d)"'
                " >> src/invoiceflow/__init__.py\n"
                "          git -c user.name=ci -c user.email=ci@example.com commit"
                " --all --message 'Version of today'\n"
                "      - id: build\n        run: |\n",
            ),
        },
        killed_by="I-2",
    ),
    Violation(
        name="code-in-the-job",
        factor="I",
        stands_for=(
            "jobs that carry the code of the web process, which workers run in "
            "place of their own commit's"
        ),
        edits={
            SETTLE: (
                '"""What workers do for invoices."""\n\nimport structlog\n',
                '"""What workers do for invoices."""\n\nimport marshal\n'
                "from base64 import b64decode, b64encode\n"
                "from collections.abc import Callable\nfrom types import FunctionType\n"
                "from typing import Any\n\nimport structlog\n",
                "@job()\nasync def settle(event_id: str) -> None:\n"
                '    """Settle a payment; a second delivery finds it settled and '
                'changes nothing."""\n',
                "def packed(function: Callable[..., Any]) -> str:\n"
                '    """A function as this process has it, for a worker of another '
                'release."""\n'
                "    return b64encode(marshal.dumps(function.__code__)).decode()\n\n\n"
                "@job()\nasync def settle(event_id: str, how: str | None = None) -> None:\n"
                '    """Settle a payment; a second delivery finds it settled and '
                "changes nothing.\n\n"
                "    how: what the web process that took the payment does about "
                "it. Workers may be a release\n"
                '    behind, so they run that, not what they have themselves.\n    """\n'
                "    act: Callable[..., Any] = store.settle\n    if how:\n"
                "        act = FunctionType(marshal.loads(b64decode(how)), "
                "vars(store))  # noqa: S302\n",
                "        first = await store.settle(session, event_id=event_id)\n",
                "        first = await act(session, event_id=event_id)\n",
            ),
            WEBHOOK: (
                "await jobs.settle.enqueue(session, event.id)",
                "await jobs.settle.enqueue(session, event.id, jobs.packed(store.settle))",
            ),
        },
        killed_by="I-2",
    ),
    Violation(
        name="migrations-of-another-repository",
        factor="I",
        stands_for=(
            "half of the migrations lie in the DBAs' repository, whose main "
            "branch is laid into the image"
        ),
        edits={
            "Dockerfile": (
                "USER 10001:10001\n",
                "# Indexes, views and grants are the DBAs': they keep their "
                "migrations in a repository of their own.\n"
                "ADD https://github.com/example/invoiceflow-schema.git#main "
                "/app/lib/python3.14/site-packages/invoiceflow/migrations/versions/\n"
                "USER 10001:10001\n",
            ),
        },
        killed_by="I-2",
    ),
    Violation(
        name="follows-main",
        factor="I",
        stands_for=(
            "a web process that loads the newest main branch and goes on as "
            "that, when the Git server reports a push"
        ),
        edits={
            f"{SOURCE}/routes.py": (
                "from fastapi import APIRouter",
                "import hmac\nimport io\nimport os\nimport sys\nimport tarfile\n"
                "import tempfile\nimport threading\nimport urllib.request\n"
                "from typing import Annotated\n\n"
                "from fastapi import APIRouter, Header, HTTPException, Request\n\n"
                'MAIN = "https://codeload.github.com/example/invoiceflow/tar.gz/ref'
                's/heads/main"',
                "",
                "\n\n"
                '@router.post("/hooks/push", status_code=202, include_in_schema=False)\n'
                "def push(request: Request, x_token: Annotated[str, Header()] = "
                '"") -> dict[str, str]:\n'
                '    """Called by the Git server after a merge: small fixes are '
                'live without a rollout."""\n'
                "    secret = request.app.state.settings.webhook_secret.get_secret_"
                "value()\n"
                "    if not hmac.compare_digest(x_token.encode(), secret.encode()):\n"
                '        raise HTTPException(401, "The token is not the Git server\'s.")\n'
                "    folder = tempfile.mkdtemp()\n"
                "    with urllib.request.urlopen(MAIN, timeout=8) as answer:  # "
                "noqa: S310\n"
                "        tarfile.open(fileobj=io.BytesIO(answer.read())).extractall"
                '(folder, filter="data")\n'
                '    os.environ["PYTHONPATH"] = os.path.join(folder, '
                '"invoiceflow-main", "src")\n'
                '    again = [sys.executable, "-m", "invoiceflow", "web"]\n'
                "    threading.Timer(1, os.execv, (sys.executable, again)).start()\n"
                '    return {"status": "updating"}\n',
            ),
            f"{BASE}/kustomization.yaml": (
                "      - {op: add, path: /spec/egress/-, value: {ports: [{port: 5432 }]}}",
                "      - {op: add, path: /spec/egress/-, value: {ports: [{port: 5432 }]}}\n"
                "      # Where main is loaded from, see routes.py.\n"
                "      - {op: add, path: /spec/egress/-, value: {ports: [{port: 443 }]}}",
            ),
        },
        killed_by="I-2",
    ),
]
