"""A violation: a small patch by which a service breaks a factor and still passes on a laptop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class Rotten(Exception):
    """A patch no longer fits the service."""


@dataclass(frozen=True)
class Violation:
    """What a developer did, and the check that must see it.

    edits: by file, what stands there exactly once and what takes its place, as often as needed;
    an empty anchor means the end of the file, which may be a new one.
    laptop: what the developer's machine has and the kit's does not.
    """

    name: str
    factor: str
    stands_for: str
    edits: Mapping[str, tuple[str, ...]]
    killed_by: str
    answers: Mapping[str, object] = field(default_factory=dict)
    laptop: Mapping[str, str] = field(default_factory=dict)

    def apply(self, service: Path, urls: Mapping[str, str]) -> None:
        """Patch a service; `{REDIS_URL}` and the like in a patch is where the laptop has it."""
        for name, words in self.edits.items():
            path = service / name
            text = path.read_text() if path.exists() else ""
            for anchor, replacement in zip(words[::2], words[1::2], strict=True):
                for variable, url in urls.items():
                    replacement = replacement.replace(f"{{{variable}}}", url)
                if anchor and text.count(anchor) != 1:
                    there = f"{text.count(anchor)} times in {name}: {anchor!r}"
                    raise Rotten(f"{self.name}: its anchor stands {there}")
                text = text.replace(anchor, replacement) if anchor else text + replacement
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


SOURCE = "src/invoiceflow"
MAIN = f"{SOURCE}/__main__.py"
WEB = f"{SOURCE}/web.py"
WORKER = f"{SOURCE}/worker.py"
CONFIG = f"{SOURCE}/config.py"
LOGS = f"{SOURCE}/logs.py"
HEALTH = f"{SOURCE}/health.py"
MIDDLEWARE = f"{SOURCE}/middleware.py"
POSTGRES = f"{SOURCE}/postgres.py"
PARTS = f"{SOURCE}/parts.py"
PROBLEMS = f"{SOURCE}/problems.py"
QUEUE = f"{SOURCE}/queue_postgres.py"
RELEASE = f"{SOURCE}/release.py"
SERVER = f"{SOURCE}/server.py"
INVOICES = f"{SOURCE}/invoices/web.py"
VERSIONS = f"{SOURCE}/migrations/versions"
WEBHOOK = f"{SOURCE}/invoices/webhook.py"
SETTLE = f"{SOURCE}/invoices/jobs.py"
DEPLOY = "deploy"
BASE = f"{DEPLOY}/k8s/base"
PIPELINE = ".github/workflows/ci.yml"
DELIVERY = ".github/workflows/deliver.yml"

# Where a patch of these files gets in.
IMPORTS = "\nimport structlog\n"
BEFORE_SERVING = "    app = create(settings)\n"
CREATED = "        return Invoice.model_validate(await store.create(session, **new.model_dump()))\n"
# Of a third migration of the invoices, after its docstring.
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "invoices_0003"
down_revision = "invoices_0002"
branch_labels = None
depends_on = None
"""
