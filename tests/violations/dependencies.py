"""II. Dependencies: something that nobody declared has to be on the machine."""

from .violation import BEFORE_SERVING, CREATED, INVOICES, MAIN, SETTLE, SOURCE, WEB, Violation

VIOLATIONS = [
    Violation(
        name="apt-in-image",
        factor="II",
        stands_for="a program of the system that only the image has",
        edits={
            "Dockerfile": (
                "COPY --from=packages /app /app\n",
                "RUN apt-get update && apt-get install -y --no-install-recommends imagemagick\n"
                "COPY --from=packages /app /app\n",
            )
        },
        killed_by="II-2",
    ),
    Violation(
        name="floating-base",
        factor="II",
        stands_for="another Python tomorrow",
        edits={"Dockerfile": ("python:3.14-slim-trixie AS base", "python:latest AS base")},
        killed_by="II-2",
    ),
    Violation(
        name="sys-path",
        factor="II",
        stands_for="leans on the packages of the system's Python",
        edits={
            MAIN: (
                "import gc\nimport os\n",
                "import gc\nimport os\nimport sys\n"
                'sys.path.append("/usr/lib/python3/dist-packages")\n',
            )
        },
        killed_by="II-1",
    ),
    Violation(
        name="file-beside-code",
        factor="II",
        stands_for="a file of the checkout that the package does not hold",
        edits={
            WEB: (
                BEFORE_SERVING,
                '    about = Path(__file__).parents[2] / "README.md"\n'
                '    log.info("web.described", about=about.read_text()[:40])\n' + BEFORE_SERVING,
                "from contextlib import asynccontextmanager, suppress\n",
                "from contextlib import asynccontextmanager, suppress\nfrom pathlib import Path\n",
            )
        },
        killed_by="II-3",
    ),
    Violation(
        name="undeclared-import",
        factor="II",
        stands_for="leans on a package that another one brings",
        edits={f"{SOURCE}/routes.py": ("", "\nimport anyio\n")},
        killed_by="II-1",
    ),
    Violation(
        name="shell-out",
        factor="II",
        stands_for="a system tool of the laptop",
        edits={
            INVOICES: (
                CREATED,
                '        subprocess.check_output(["date", "+%s"])\n' + CREATED,
                "import uuid\n",
                "import subprocess\nimport uuid\n",
            )
        },
        killed_by="II-4",
    ),
    Violation(
        name="shell-out-if-there",
        factor="II",
        stands_for="a system tool that is missed in silence",
        edits={
            WEB: (
                BEFORE_SERVING,
                "    with suppress(OSError):\n"
                '        subprocess.run(["git", "describe"], capture_output=True)\n'
                + BEFORE_SERVING,
                "import math\n",
                "import math\nimport subprocess\n",
            )
        },
        killed_by="II-4",
    ),
    Violation(
        name="tool-in-job",
        factor="II",
        stands_for="a worker that calls a program by its full path",
        edits={
            SETTLE: (
                "    async with transaction() as session:\n",
                '    await (await asyncio.create_subprocess_exec("/bin/true")).wait()\n'
                "    async with transaction() as session:\n",
                "import structlog\n",
                "import asyncio\n\nimport structlog\n",
            )
        },
        killed_by="II-4",
    ),
    Violation(
        name="hidden-tool",
        factor="II",
        stands_for="a function of the standard library that asks a program",
        edits={
            WEB: (
                BEFORE_SERVING,
                '    log.info("web.machine", processor=platform.processor())\n' + BEFORE_SERVING,
                "import math\n",
                "import math\nimport platform\n",
            )
        },
        killed_by="II-4",
    ),
    Violation(
        name="dev-import",
        factor="II",
        stands_for="leans on a package of the developers",
        edits={f"{SOURCE}/routes.py": ("", "\nimport yaml\n")},
        killed_by="II-1",
    ),
    Violation(
        name="frozen-image",
        factor="II",
        stands_for="an image from a lock that nobody compared with the manifest",
        edits={
            "Dockerfile": ("--locked --no-dev --no-editable", "--frozen --no-dev --no-editable")
        },
        killed_by="II-2",
    ),
    Violation(
        name="left-out",
        factor="II",
        stands_for="a package that lacks what the checkout has",
        edits={
            "pyproject.toml": (
                'module-name = "invoiceflow"\n',
                'module-name = "invoiceflow"\nwheel-exclude = ["**/reminders.py"]\n',
            )
        },
        killed_by="II-3",
    ),
]
