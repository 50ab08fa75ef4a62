"""II. Dependencies: something that nobody declared has to be on the machine."""

from .violation import (
    BEFORE_SERVING,
    CREATED,
    DEPLOY,
    INVOICES,
    MAIN,
    PARTS,
    POSTGRES,
    SETTLE,
    SOURCE,
    WEB,
    WEBHOOK,
    Violation,
)

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
    Violation(
        name="passwd-entry",
        factor="II",
        stands_for="a user that the machine's list of users must have",
        edits={
            POSTGRES: (
                "import asyncio\nimport re\n",
                "import asyncio\nimport getpass\nimport re\n",
                '    "connect_timeout": 5,\n',
                "    # Whose connection it is, in pg_stat_activity.\n"
                '    "application_name": f"invoiceflow of {getpass.getuser()}",\n'
                '    "connect_timeout": 5,\n',
            )
        },
        killed_by="II-7",
    ),
    Violation(
        name="fetched-at-start",
        factor="II",
        stands_for="a library that each process fetches when it starts, the newest there is",
        edits={
            f"{SOURCE}/docs.py": (
                "",
                '"""/docs from here: the browsers of our customers reach no CDN."""\n'
                "\n"
                "import threading\n"
                "import urllib.request\n"
                "from contextlib import suppress\n"
                "from http.client import HTTPException as Broken\n"
                "\n"
                "from fastapi import APIRouter, HTTPException, Request, Response\n"
                "from fastapi.openapi.docs import get_swagger_ui_html\n"
                "from fastapi.responses import HTMLResponse\n"
                "\n"
                'NEWEST = "https://unpkg.com/swagger-ui-dist@latest"\n'
                "FILES = {\n"
                '    "swagger-ui-bundle.js": "text/javascript",\n'
                '    "swagger-ui.css": "text/css",\n'
                "}\n"
                "\n"
                "router = APIRouter(include_in_schema=False)\n"
                "_files: dict[str, bytes] = {}\n"
                "\n"
                "\n"
                "def start() -> None:\n"
                '    """Get the files; a request meanwhile finds them where they come from."""\n'
                "    threading.Thread(target=_fetch, daemon=True).start()\n"
                "\n"
                "\n"
                "def _fetch() -> None:\n"
                "    for name in FILES:\n"
                "        with (\n"
                "            suppress(OSError, Broken),\n"
                '            urllib.request.urlopen(f"{NEWEST}/{name}", timeout=10) as answer,'
                "  # noqa: S310\n"
                "        ):\n"
                "            _files[name] = answer.read()\n"
                "\n"
                "\n"
                '@router.get("/docs")\n'
                "async def page(request: Request) -> HTMLResponse:\n"
                "    where = {name: f\"{'/docs' if name in _files else NEWEST}/{name}\""
                " for name in FILES}\n"
                "    return get_swagger_ui_html(\n"
                '        openapi_url=request.app.openapi_url or "",\n'
                "        title=request.app.title,\n"
                '        swagger_js_url=where["swagger-ui-bundle.js"],\n'
                '        swagger_css_url=where["swagger-ui.css"],\n'
                "    )\n"
                "\n"
                "\n"
                '@router.get("/docs/{name}")\n'
                "async def file(name: str) -> Response:\n"
                "    if name not in _files:\n"
                "        raise HTTPException(404)\n"
                "    return Response(_files[name], media_type=FILES[name])\n",
            ),
            PARTS: (
                '    "routes",\n',
                '    "routes",\n    "docs",\n',
            ),
            WEB: (
                "from . import health, parts, problems, resources, server\n",
                "from . import docs, health, parts, problems, resources, server\n",
                "            reaching = asyncio.create_task(reach())\n",
                "            docs.start()\n            reaching = asyncio.create_task(reach())\n",
                "        lifespan=lifespan,\n",
                "        lifespan=lifespan,\n        docs_url=None,  # docs.py has it\n",
            ),
        },
        killed_by="II-6",
    ),
    Violation(
        name="system-zones",
        factor="II",
        stands_for="times that need the machine's database of time zones",
        edits={
            INVOICES: (
                "from datetime import date, datetime\nfrom typing import Annotated\n",
                "from datetime import date, datetime, time\n"
                "from typing import Annotated\n"
                "from zoneinfo import ZoneInfo\n",
                "from pydantic import BaseModel, ConfigDict, Field, StringConstraints\n",
                "from pydantic import BaseModel, ConfigDict, Field,"
                " StringConstraints, computed_field\n",
                'router = APIRouter(prefix="/invoices", tags=["invoices"])\n',
                'router = APIRouter(prefix="/invoices", tags=["invoices"])\n\n'
                'OURS = ZoneInfo("Europe/Berlin")\n',
                "    created_at: datetime\n",
                "    created_at: datetime\n\n"
                "    @computed_field  # type: ignore[prop-decorator]\n"
                "    @property\n"
                "    def due_at(self) -> datetime:\n"
                '        """The last moment in which it can be paid in time, at our bank."""\n'
                "        return datetime.combine(self.due_on, time.max, OURS)\n",
            ),
        },
        killed_by="II-1",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="system-font",
        factor="II",
        stands_for="a font that has to be on the machine",
        edits={
            f"{SOURCE}/invoices/pdf.py": (
                "from collections.abc import AsyncIterator\n",
                "from collections.abc import AsyncIterator\nfrom functools import cache\n"
                "from pathlib import Path\n",
                "COLUMNS = 70  # of text on a page\n",
                "COLUMNS = 60  # of text on a page\n"
                'FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")\n'
                "WIDTH = 602  # of each of its letters\n",
                '    """A PDF of one A4 page; its font is every reader\'s own, and'
                ' shows western letters only."""\n',
                '    """A PDF of one A4 page, with its font in it: the same on every'
                ' screen and printer."""\n',
                '        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica'
                ' /Encoding /WinAnsiEncoding >>",\n',
                "        *font(),\n",
                "async def _whole(",
                "@cache\n"
                "def font() -> list[bytes]:\n"
                '    """Objects 5 to 7: the font, what is said of it, and its file."""\n'
                "    file = FONT.read_bytes()\n"
                '    widths = b" ".join([b"%d" % WIDTH] * (256 - 32))\n'
                "    return [\n"
                '        b"<< /Type /Font /Subtype /TrueType /BaseFont'
                ' /DejaVuSansMono /FirstChar 32"\n'
                '        b" /LastChar 255 /Widths [%s] /Encoding /WinAnsiEncoding'
                ' /FontDescriptor 6 0 R >>" % widths,\n'
                '        b"<< /Type /FontDescriptor /FontName /DejaVuSansMono /Flags 33"\n'
                '        b" /FontBBox [-558 -375 718 1042] /ItalicAngle 0 /Ascent 928'
                ' /Descent -236"\n'
                '        b" /CapHeight 729 /StemV 80 /FontFile2 7 0 R >>",\n'
                '        b"<< /Length %d /Length1 %d >>\\nstream\\n%s\\nendstream" %'
                " (len(file), len(file), file),\n"
                "    ]\n"
                "\n"
                "\n"
                "async def _whole(",
            ),
        },
        killed_by="II-7",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="yaml-of-the-runner",
        factor="II",
        stands_for="a deploy that leans on a package of the system's Python",
        edits={
            f"{DEPLOY}/kubernetes.py": (
                "from typing import Any\n\nfrom . import project, smoke\n",
                "from typing import Any\n\nimport yaml\n\nfrom . import project, smoke\n",
                "        maps = [one.text for one in"
                ' _manifests(self.rendered_overlay) if one.kind == "ConfigMap"]\n'
                '        return {name for text in maps for name in re.findall(r"^ '
                ' ([A-Z][A-Z0-9_]*): ", text, re.M)}\n',
                "        found = yaml.safe_load_all(self.rendered_overlay)\n"
                '        maps = [one.get("data") or {} for one in found if one and'
                ' one["kind"] == "ConfigMap"]\n'
                "        return {name for data in maps for name in data}\n",
            ),
        },
        killed_by="II-1",
    ),
    Violation(
        name="system-library",
        factor="II",
        stands_for=("signatures that are computed by a C library of the system, loaded by ctypes"),
        edits={
            WEBHOOK: (
                "import hashlib\nimport hmac\n",
                "import ctypes\nimport hmac\n",
                "TOLERANCE_SECONDS = 300  # an older delivery may be a replay\n",
                "TOLERANCE_SECONDS = 300  # an older delivery may be a replay\n\n"
                "# OpenSSL itself: half the cost of the standard library's way to it.\n"
                'CRYPTO = ctypes.CDLL("libcrypto.so.3")\n'
                "CRYPTO.EVP_sha256.restype = ctypes.c_void_p\nCRYPTO.HMAC.argtypes = [\n"
                "    *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int),\n"
                "    *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, "
                "ctypes.c_void_p),\n]\n",
                '    digest = hmac.new(secret.encode(), stamp.encode() + b"." + '
                'body, hashlib.sha256).hexdigest()\n    return f"t={stamp},v1={digest}"\n',
                '    key, message = secret.encode(), stamp.encode() + b"." + body\n'
                "    digest = ctypes.create_string_buffer(32)\n"
                "    CRYPTO.HMAC(CRYPTO.EVP_sha256(), key, len(key), message, "
                "len(message), digest, None)\n"
                '    return f"t={stamp},v1={digest.raw.hex()}"\n',
            ),
        },
        killed_by="II-7",
    ),
    Violation(
        name="venv-not-isolated",
        factor="II",
        stands_for=(
            "virtual environments, of the laptop, the pipeline and the image, "
            "that see the machine's packages too"
        ),
        edits={
            "bin/setup": (
                "    python3 -m venv .venv && ",
                "    python3 -m venv --system-site-packages .venv && ",
                'echo "== packages, as uv.lock has them"\n',
                'echo "== packages, as uv.lock has them"\n'
                "# What this machine has already, drivers and the like, is there "
                "for the service, too.\n"
                "[ -d .venv ] || uv venv --quiet --system-site-packages .venv\n",
            ),
            "Dockerfile": (
                "    uv sync --locked --no-dev --no-install-project\n",
                "    uv venv --system-site-packages /app && uv sync --locked "
                "--no-dev --no-install-project\n",
            ),
        },
        killed_by="II-7",
    ),
]
