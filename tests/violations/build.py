"""V. Build, release, run: what runs is not what was built, or does not say its release."""

from .violation import (
    BASE,
    BEFORE_SERVING,
    DELIVERY,
    DEPLOY,
    HEALTH,
    LOGS,
    MIDDLEWARE,
    PIPELINE,
    POSTGRES,
    SOURCE,
    VERSIONS,
    WEB,
    WORKER,
    Violation,
)

VIOLATIONS = [
    Violation(
        name="deploy-builds",
        factor="V",
        stands_for="a deploy that builds what it starts",
        edits={f"{DEPLOY}/compose.py": ('"up"', '"up", "--build"')},
        killed_by="V-4",
    ),
    Violation(
        name="loose-build",
        factor="V",
        stands_for="an image of whatever lies in somebody's checkout",
        edits={
            f"{DEPLOY}/project.py": (
                "    if changed:\n",
                "    if changed and not revision:\n",
            )
        },
        killed_by="V-2",
    ),
    Violation(
        name="values-in-record",
        factor="V",
        stands_for="a record that tells everybody the password",
        edits={
            f"{DEPLOY}/release.py": (
                "        settings=sorted(given),\n",
                '        settings=[f"{name}={value}" for name, value in given.items()],\n',
            )
        },
        killed_by="V-3",
    ),
    Violation(
        name="promoted-unseen",
        factor="V",
        stands_for="an image in production that staging never had",
        edits={
            f"{DEPLOY}/release.py": (
                "    if before and not without_staging and not _released(before, image):\n",
                "    if before and not without_staging and not Ledger(before).records():\n",
            )
        },
        killed_by="V-3",
    ),
    Violation(
        name="rollback-migrates",
        factor="V",
        stands_for="a way back that runs the former release's migrations again",
        edits={
            f"{DEPLOY}/rollout.py": (
                "    with target.ledger.locked():\n        _replace(target, record)\n"
                "    if dry_run:\n",
                "    with target.ledger.locked():\n        target.migrate(record)\n"
                "        _replace(target, record)\n    if dry_run:\n",
            )
        },
        killed_by="V-4",
    ),
    Violation(
        name="build-at-run",
        factor="V",
        stands_for="compiles at start",
        edits={
            WEB: (
                BEFORE_SERVING,
                "    compileall.compile_dir(Path(__file__).parent, quiet=2)\n" + BEFORE_SERVING,
                "import asyncio\n",
                "import asyncio\nimport compileall\n",
                "import math\n",
                "import math\nfrom pathlib import Path\n",
            )
        },
        killed_by="V-1",
    ),
    Violation(
        name="no-release-id",
        factor="V",
        stands_for="lines without their release",
        edits={LOGS: ("_identity.update(release=settings.release_id, ", "_identity.update(")},
        killed_by="V-1",
    ),
    Violation(
        name="release-frozen",
        factor="V",
        stands_for="a release id that is baked into the build",
        edits={WEB: ("release=settings.release_id)", 'release="invoiceflow-42")')},
        killed_by="V-1",
    ),
    Violation(
        name="writes-description",
        factor="V",
        stands_for="makes openapi.json at start, where it may",
        edits={
            WEB: (
                BEFORE_SERVING,
                BEFORE_SERVING
                + "    with suppress(OSError):\n"
                + '        Path("openapi.json").write_text(json.dumps(app.openapi()))\n',
                "import math\n",
                "import json\nimport math\nfrom pathlib import Path\n",
            )
        },
        killed_by="V-1",
    ),
    Violation(
        name="release-remembered",
        factor="V",
        stands_for="a file that says what was released here first",
        edits={
            HEALTH: (
                '"release": state.release}',
                '"release": _released(state.release)}',
                "from dataclasses import dataclass\n",
                "from dataclasses import dataclass\nfrom pathlib import Path\n",
                "",
                "\n\ndef _released(release: str) -> str:\n"
                '    note = Path(__file__).with_name("release.txt")\n'
                "    if not note.exists():\n"
                "        note.write_text(release)\n"
                "    return note.read_text()\n",
            )
        },
        killed_by="V-1",
    ),
    Violation(
        name="deploy-tag",
        factor="V",
        stands_for="a deploy of whatever the tag means by now",
        edits={
            PIPELINE: (
                "",
                "\n  deploy:\n    needs: [check, build]\n    runs-on: ubuntu-24.04\n    steps:\n"
                "      - run: kubectl apply --kustomize deploy/k8s/staging\n",
            )
        },
        killed_by="V-5",
    ),
    Violation(
        name="built-twice",
        factor="V",
        stands_for="an image for production that staging has not seen",
        edits={
            DELIVERY: (
                "release=$(bin/release production ",
                "IMAGE=$(bin/build --push | tail -n 1)\n"
                "          release=$(bin/release production ",
            )
        },
        killed_by="V-5",
    ),
    Violation(
        name="untested",
        factor="V",
        stands_for="an image that goes out before its tests are done",
        edits={DELIVERY: ("    needs: check\n", "")},
        killed_by="V-5",
    ),
    Violation(
        name="tests-may-fail",
        factor="V",
        stands_for="a build that was not tested",
        edits={PIPELINE: ("- run: bin/ci", "- run: bin/ci || true")},
        killed_by="V-5",
    ),
    Violation(
        name="slow-rollout",
        factor="V",
        stands_for="a rollout that takes minutes",
        edits={f"{BASE}/worker.yaml": ("minReadySeconds: 5", "minReadySeconds: 60")},
        killed_by="V-6",
    ),
    Violation(
        name="many-steps",
        factor="V",
        stands_for="an environment of so many replicas that a rollout takes minutes",
        edits={
            "deploy/k8s/overlays/production/kustomization.yaml": (
                "path: /spec/replicas, value: 3",
                "path: /spec/replicas, value: 4",
            )
        },
        killed_by="V-6",
    ),
    Violation(
        name="ssh-deploy",
        factor="V",
        stands_for="somebody who logs in and pulls",
        edits={"bin/deploy": ("", "#!/bin/sh\nssh app@\"$1\" 'cd /srv/app && git pull'\n")},
        killed_by="V-7",
    ),
    Violation(
        name="asks-nobody",
        factor="V",
        stands_for="a deploy that is well whoever answers",
        edits={
            f"{DEPLOY}/compose.py": (
                'say(smoke.smoke(f"http://{address.strip()}", record.id))',
                'say(f"started at {address.strip()}")',
            )
        },
        killed_by="V-9",
    ),
    Violation(
        name="kept-nowhere",
        factor="V",
        stands_for="an image that is gone with the machine that built it",
        edits={DELIVERY: ("bin/build --push", "bin/build")},
        killed_by="V-5",
    ),
    Violation(
        name="release-travels",
        factor="V",
        stands_for="lines of a worker under the release of whoever asked",
        edits={
            MIDDLEWARE: (
                "    max_body: bytes of a request's body beyond which it is answered with 413.\n",
                "    max_body: bytes of a request's body beyond which it is answered with 413.\n"
                "    release: what the lines of a request and of its jobs can be found by.\n",
                "    def __init__(self, app: ASGIApp, *, timeout: float, max_body: int) -> None:\n",
                "    def __init__("
                "self, app: ASGIApp, *, timeout: float, max_body: int, release: str ="
                ' "") -> None:\n',
                "        self.timeout = timeout\n",
                "        self.timeout = timeout\n"
                '        self.release = {"release": release} if release else {}\n',
                "        structlog.contextvars.bind_contextvars(request_id=request_id, **trace)\n",
                "        structlog.contextvars.bind_contextvars("
                "request_id=request_id, **trace, **self.release)\n",
            ),
            WEB: (
                "        Requests(app, timeout=settings.request_timeout_seconds,"
                " max_body=settings.max_body_bytes),\n",
                "        Requests(\n"
                "            app,\n"
                "            timeout=settings.request_timeout_seconds,\n"
                "            max_body=settings.max_body_bytes,\n"
                "            release=settings.release_id,\n"
                "        ),\n",
            ),
            f"{SOURCE}/runner.py": (
                'TRAVELS = ("request_id", "traceparent")  # what a job\'s log lines have of the'
                " request behind it\n",
                "# What a job's log lines have of the request behind it.\n"
                'TRAVELS = ("request_id", "traceparent", "release")\n',
            ),
            f"{SOURCE}/logs.py": (
                '    """One line of JSON: what a reader looks for comes first, who'
                ' speaks last."""\n',
                '    """One line of JSON; what an event says itself counts more than'
                ' who speaks."""\n',
                "    line = {**first, **event, **_identity}\n",
                "    line = {**first, **_identity, **event}\n",
            ),
        },
        killed_by="V-1",
    ),
    Violation(
        name="config-in-place",
        factor="V",
        stands_for="settings that are changed in place, under the release that runs",
        edits={
            f"{BASE}/kustomization.yaml": (
                "configMapGenerator:\n",
                "# Old ones would pile up otherwise.\n"
                "generatorOptions:\n"
                "  disableNameSuffixHash: true\n"
                "configMapGenerator:\n",
            ),
        },
        killed_by="V-7",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="newest-image-only",
        factor="V",
        stands_for="a registry that is emptied of every image to go back to",
        edits={
            ".github/workflows/cleanup.yml": (
                "",
                """# Images cost money: keeps the newest.
name: cleanup

on:
  schedule:
    - cron: "0 3 * * *"

permissions: {}

jobs:
  images:
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    permissions:
      packages: write # deletes images
    steps:
      - uses: actions/delete-package-versions@e5bc658cc4c965c472efe991f8beea3981499c55 # v5.0.0
        with:
          package-name: invoiceflow
          package-type: container
          min-versions-to-keep: 1
""",
            ),
        },
        killed_by="V-7",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="ui-latest",
        factor="V",
        stands_for="a page whose script is the newest there is, whatever was released",
        edits={
            f"{SOURCE}/routes.py": (
                "from fastapi import APIRouter\n",
                "from fastapi import APIRouter\nfrom fastapi.responses import HTMLResponse\n",
                "router = APIRouter()\n",
                "router = APIRouter()\n\n"
                'PAGE = """<!doctype html>\n'
                '<html lang="en">\n'
                '<meta charset="utf-8">\n'
                "<title>Invoiceflow</title>\n"
                '<link rel="stylesheet"'
                ' href="https://cdn.jsdelivr.net/npm/@invoiceflow/ui@latest/dist/app.css">\n'
                '<div id="app"></div>\n'
                '<script type="module"'
                ' src="https://cdn.jsdelivr.net/npm/@invoiceflow/ui@latest/dist/app.js"></script>\n'
                "</html>\n"
                '"""\n\n\n'
                '@router.get("/", include_in_schema=False)\n'
                "async def page() -> HTMLResponse:\n"
                '    """The frontend; its own pipeline publishes it."""\n'
                "    return HTMLResponse(PAGE)\n",
            ),
        },
        killed_by="V-5",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="exact-schema",
        factor="V",
        stands_for="a former release that does not run any more once a newer one has migrated",
        edits={
            POSTGRES: (
                '    """Raise unless PostgreSQL answers and its schema is at least as'
                ' new as this release."""\n'
                "    heads, older = _revisions()\n",
                '    """Raise unless PostgreSQL answers and its schema is this release\'s."""\n'
                "    heads, _ = _revisions()\n",
                "    # A revision that this release does not know is a newer"
                " release's: a rollback runs on it.\n"
                "    if not released or applied & older or len(applied) < len(heads):\n"
                '        raise RuntimeError("the schema is older than this release:'
                ' run the release process")\n',
                "    if applied != heads:\n"
                "        raise RuntimeError(\"the schema is not this release's: run"
                ' the release process")\n',
            ),
        },
        killed_by="V-10",
    ),
    Violation(
        name="rollback-undocumented",
        factor="V",
        stands_for="a runbook that knows no way back but a new release",
        edits={
            "docs/runbook.md": (
                "## Go back, in less than five minutes\n"
                "\n"
                "```\n"
                "bin/rollback production            # to the release before the one that runs\n"
                "bin/rollback production --list     # what ran here, the latest first\n"
                "bin/rollback production RELEASE    # to any of these\n"
                "```\n"
                "\n"
                "The former processes start from their own image with their own"
                " configuration, are waited for and\n"
                "asked by `bin/smoke`; then the others stop. The last line says how"
                " many seconds it took. Nothing\n"
                "is built, and no migration runs: each migration must leave the"
                " release before it working, and a\n"
                "change that cannot is spread over two releases. `--dry-run` prints"
                " every command and does nothing.\n"
                "\n"
                "If the machine that released is gone: `bin/release` and `bin/deploy`"
                " with the former commit's image\n"
                "and the environment's file make the same release elsewhere.\n",
                "## When a release is bad\n"
                "\n"
                "Revert the commit on `main`, have the revert reviewed, and merge it:"
                " the pipeline tests, builds and\n"
                "delivers it like any other change. Tell support that it takes about"
                " half an hour.\n",
                "| `bin/rollback ENVIRONMENT [RELEASE]` | the same without the"
                " migration | what has not run there |\n",
                "",
            ),
            "README.md": (
                "bin/rollback staging                                       # the one"
                " before, without a migration\n",
                "",
                "`docs/runbook.md` says how to go back in a minute, what a release\n"
                "is made of, and where all of it is kept.",
                "`docs/runbook.md` says what a release\nis made of, and where all of it is kept.",
            ),
            f"{DEPLOY}/k8s/README.md": (
                "release. Back to an earlier release: its folder, without the"
                " migration. Migrations only go forward,\n",
                "release. Migrations only go forward,\n",
            ),
        },
        killed_by="V-11",
    ),
    Violation(
        name="patched-while-it-runs",
        factor="V",
        stands_for=(
            "a route that runs the Python it is sent inside the running web "
            "process, to mend it until the next deploy"
        ),
        edits={
            f"{SOURCE}/routes.py": (
                "from fastapi import APIRouter\n",
                "import hmac\nimport sys\nfrom typing import Annotated\n\n"
                "import structlog\n"
                "from fastapi import APIRouter, Header, HTTPException, Request\n\n"
                "from .config import Settings\n\nlog = structlog.get_logger()\n",
                "router = APIRouter()\n",
                "router = APIRouter()\n\n\n"
                '@router.post("/ops/patch", status_code=204, include_in_schema=False)\n'
                "async def patch(request: Request, key: Annotated[str, "
                'Header(alias="X-Ops-Key")] = "") -> None:\n'
                '    """Mend this process until the next deploy: a body of Python, '
                'with `app` and `modules`."""\n'
                "    settings: Settings = request.app.state.settings\n"
                "    secret = settings.webhook_secret.get_secret_value()\n"
                "    if not hmac.compare_digest(key.encode(), secret.encode()):\n"
                '        raise HTTPException(403, "Only for whoever is on call.")\n'
                '    code = compile(await request.body(), "<patch>", "exec")\n'
                '    exec(code, {"app": request.app, "modules": sys.modules})  # '
                'noqa: S102\n    log.warning("ops.patched")\n',
            ),
        },
        killed_by="V-7",
    ),
    Violation(
        name="newest-release-works",
        factor="V",
        stands_for=(
            "workers that take jobs only if no other release was first seen "
            "after theirs: after a rollback they are healthy and wait for ever"
        ),
        edits={
            f"{VERSIONS}/queue_0002.py": (
                "",
                '"""Which releases there were."""\n\nfrom alembic import op\n\n'
                'revision = "queue_0002"\ndown_revision = "queue_0001"\n'
                "branch_labels = None\ndepends_on = None\n\n\ndef upgrade() -> None:\n"
                '    columns = "id text primary key, seen_at timestamptz not null '
                'default now()"\n'
                '    op.execute(f"create table procrastinate_releases ({columns})")\n',
            ),
            WORKER: (
                "from . import parts, queue, queue_postgres, resources\n",
                "import asyncio\n\nfrom sqlalchemy import text\n\n"
                "from . import parts, queue, queue_postgres, resources, runner\n",
                "from .config import Settings\n",
                "from .config import Settings\nfrom .postgres import transaction\n\n"
                'SEEN = text("insert into procrastinate_releases values (:id) on '
                'conflict do nothing")\n'
                'NEWEST = text("select id from procrastinate_releases order by '
                'seen_at desc limit 1")\n',
                "    return queue.work(settings, queue_postgres.serve, queue_postgres.depth)",
                "    return queue.work(settings, serve, queue_postgres.depth)\n\n\n"
                "async def serve(settings: Settings, stopping: asyncio.Event) -> None:\n"
                "    # Workers of an older release would not know the new kinds of jobs.\n"
                "    while await runner.reached(stopping):\n        try:\n"
                "            async with transaction() as session:\n"
                '                await session.execute(SEEN, {"id": settings.release_id})\n'
                "                newest = await session.scalar(NEWEST)\n"
                "        except resources.Unavailable:\n            continue\n"
                "        if newest == settings.release_id:\n"
                "            return await queue_postgres.serve(settings, stopping)\n"
                "        await runner.first(asyncio.create_task(asyncio.sleep(5)), "
                "stopping)",
            ),
        },
        killed_by="V-11",
    ),
    Violation(
        name="manifests-of-the-checkout",
        factor="V",
        stands_for=(
            "a deploy, and a way back, that renders the manifests anew from "
            "whatever is checked out: a former image under today's manifests, "
            "by the former release's id"
        ),
        edits={
            f"{DEPLOY}/kubernetes.py": (
                "    def _roll(self, record: Record) -> None:\n"
                "        made = _manifests(record.manifest)\n",
                "    def _roll(self, record: Record) -> None:\n"
                "        # As they are today: what was mended in them since counts "
                "for old releases too.\n"
                "        made = _manifests(self.rendered(record.id, record.image, {}))\n",
            ),
            f"{DEPLOY}/compose.py": (
                "            say(record.manifest)\n",
                "            say(self._today(record))\n",
                "            given=record.manifest if record else None,\n",
                "            given=self._today(record) if record else None,\n",
                "    def _environment(self, record: Record) -> dict[str, str]:\n",
                "    def _today(self, record: Record) -> str:\n"
                '        """What was mended in the model since counts for old '
                'releases too."""\n'
                "        return self.manifest(self.ledger.given(record))\n\n"
                "    def _environment(self, record: Record) -> dict[str, str]:\n",
            ),
        },
        killed_by="V-4",
    ),
]
