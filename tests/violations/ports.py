"""VII. Port binding: the process listens elsewhere, or needs another to be reached."""

from .violation import (
    BASE,
    BEFORE_SERVING,
    CREATED,
    DEPLOY,
    HEALTH,
    INVOICES,
    MIDDLEWARE,
    SERVER,
    SOURCE,
    WEB,
    WEBHOOK,
    Violation,
)

VIOLATIONS = [
    Violation(
        name="port-fixed",
        factor="VII",
        stands_for="ignores PORT",
        edits={WEB: ("server.listen(settings.port)", "server.listen(18321)")},
        killed_by="VII-1",
        laptop={"PORT": "18321"},
    ),
    Violation(
        name="loopback",
        factor="VII",
        stands_for="is reached from its own machine alone",
        edits={
            SERVER: (
                "    if socket.has_dualstack_ipv6():\n",
                '    return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)\n'
                "    if socket.has_dualstack_ipv6():\n",
            )
        },
        killed_by="VII-1",
    ),
    Violation(
        name="metrics-port",
        factor="VII",
        stands_for="a second port that nobody was told of",
        edits={
            WEB: (
                BEFORE_SERVING,
                "    with suppress(OSError):\n        start_http_server(0)\n" + BEFORE_SERVING,
                "from fastapi import FastAPI\n",
                "from fastapi import FastAPI\nfrom prometheus_client import start_http_server\n",
            )
        },
        killed_by="VII-1",
    ),
    Violation(
        name="worker-listens",
        factor="VII",
        stands_for="a worker with a port for its probes",
        edits={
            f"{SOURCE}/worker.py": (
                "    resources.load(parts.JOBS)\n",
                '    probes = socket.create_server(("", 0))\n    resources.load(parts.JOBS)\n',
                "from . import parts",
                "import socket\n\nfrom . import parts",
            )
        },
        killed_by="VII-1",
    ),
    Violation(
        name="connection-each",
        factor="VII",
        stands_for="needs a proxy that speaks HTTP properly",
        edits={
            WEB: (
                "        access_log=False,\n",
                '        access_log=False,\n        headers=[("Connection", "close")],\n',
            )
        },
        killed_by="VII-3",
    ),
    Violation(
        name="trusts-any-proxy",
        factor="VII",
        stands_for="believes what any client says of its address",
        edits={
            WEB: (
                "        proxy_headers=False,\n",
                '        proxy_headers=True,\n        forwarded_allow_ips="*",\n',
            )
        },
        killed_by="VII-5",
    ),
    Violation(
        name="unix-socket",
        factor="VII",
        stands_for="listens for a proxy on the same machine, too",
        edits={
            WEB: (
                BEFORE_SERVING,
                "    beside = socket.socket(socket.AF_UNIX)\n"
                '    beside.bind("\\0invoiceflow-%d" % os.getpid())\n    beside.listen()\n'
                + BEFORE_SERVING,
                "import math\n",
                "import math\nimport os\nimport socket\n",
            )
        },
        killed_by="VII-1",
    ),
    Violation(
        name="port-drift",
        factor="VII",
        stands_for="a container that says another port",
        edits={f"{BASE}/web.yaml": ("containerPort: 8000", "containerPort: 8080")},
        killed_by="VII-4",
    ),
    Violation(
        name="debug-app",
        factor="VII",
        stands_for="a development server in production",
        edits={
            WEB: (
                "        lifespan=lifespan,\n",
                "        lifespan=lifespan,\n        debug=True,\n",
            )
        },
        killed_by="VII-5",
    ),
    Violation(
        name="port-of-the-machine",
        factor="VII",
        stands_for="a replica that takes the port of its whole machine",
        edits={
            f"{BASE}/web.yaml": (
                "containerPort: 8000",
                "containerPort: 8000\n              hostPort: 8000",
            )
        },
        killed_by="VII-4",
    ),
    Violation(
        name="next-port",
        factor="VII",
        stands_for="another port than PORT where that one is taken",
        edits={
            WEB: (
                "        listener = server.listen(settings.port)\n",
                "        try:\n"
                "            listener = server.listen(settings.port)\n"
                "        except OSError:\n"
                "            listener = server.listen(settings.port + 1)\n",
            )
        },
        killed_by="VII-1",
    ),
    Violation(
        name="idle-cut",
        factor="VII",
        stands_for="a connection that is closed while the balancer still keeps it",
        edits={
            SERVER: (
                "KEEP_ALIVE_SECONDS = 75  # longer than balancers keep an idle connection, or they"
                " use a closed one\n",
                "KEEP_ALIVE_SECONDS = 5  # the server's own default: idle clients cost memory\n",
            )
        },
        killed_by="VII-3",
    ),
    Violation(
        name="location-localhost",
        factor="VII",
        stands_for="links that lead to the laptop of whoever follows them",
        edits={
            INVOICES: (
                "from fastapi import APIRouter, HTTPException, Query\n",
                "from fastapi import APIRouter, HTTPException, Query, Request, Response\n",
                "async def create(new: NewInvoice) -> Invoice:\n",
                "async def create(new: NewInvoice, request: Request, response: Response)"
                " -> Invoice:\n",
                CREATED,
                "        made = Invoice.model_validate(await store.create(session,"
                " **new.model_dump()))\n"
                '    here = f"http://localhost:{request.app.state.settings.port}"\n'
                '    response.headers["Location"] = f"{here}/invoices/{made.id}"\n'
                "    return made\n",
            )
        },
        killed_by="VII-6",
    ),
    Violation(
        name="https-redirect",
        factor="VII",
        stands_for="a service that sends everybody away who does not come through its TLS proxy",
        edits={
            MIDDLEWARE: (
                "from starlette.types import ASGIApp, Message, Receive, Scope, Send\n",
                "from starlette.responses import RedirectResponse\n"
                "from starlette.types import ASGIApp, Message, Receive, Scope, Send\n",
                'QUIET = {"/livez", "/readyz", "/metrics"}\n',
                'QUIET = {"/livez", "/readyz", "/metrics"}\n'
                'LOCAL = {"", "localhost", "127.0.0.1", "[::1]"}  # development has no TLS\n',
                "            app = problem(413)\n",
                "            app = problem(413)\n"
                "        if secure := _secure(scope):\n"
                "            app = RedirectResponse(secure, 308)\n",
                "def _head(scope: Scope)",
                '''def _secure(scope: Scope) -> str | None:
    """Where to go instead, if nginx did not take the request over TLS."""
    headers = dict(scope["headers"])
    host = re.sub(r":\\d+$", "", headers.get(b"host", b"").decode("latin-1"))
    proto = headers.get(b"x-forwarded-proto")
    if proto == b"https" or host in LOCAL or scope["path"] in QUIET:
        return None
    query = scope["query_string"].decode("latin-1")
    return f"https://{host}{scope['path']}{'?' if query else ''}{query}"


def _head(scope: Scope)''',
            ),
        },
        killed_by="VII-3",
    ),
    Violation(
        name="slow-clients",
        factor="VII",
        stands_for="a server that leaves slow clients and large heads to the nginx before it",
        edits={
            f"{SOURCE}/server.py": (
                "MAX_HEADER_BYTES = 32 * 1024\n",
                "MAX_HEADER_BYTES = 2**30  # nginx has the limit: see deploy/nginx.conf\n",
                "        now = asyncio.get_running_loop().time()\n"
                "        for connection in list(self.server_state.connections):\n"
                "            if isinstance(connection, Protocol):\n"
                "                connection.expire(now)\n",
                "        # Slow clients are nginx's, which buffers requests: see"
                " deploy/nginx.conf.\n",
            ),
            "deploy/nginx.conf": (
                "",
                """# On each host, before the service.
upstream invoiceflow {
    server 127.0.0.1:8000;
    keepalive 32;
}

server {
    listen 80;
    client_header_timeout 10s;
    client_body_timeout 10s;
    large_client_header_buffers 4 8k;
    client_max_body_size 1m;

    location / {
        proxy_pass http://invoiceflow;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_request_buffering on;
    }
}
""",
            ),
        },
        killed_by="VII-3",
    ),
    Violation(
        name="remote-user",
        factor="VII",
        stands_for="a login by the proxy, which whoever reaches the port can feign",
        edits={
            f"{SOURCE}/sessions.py": (
                "from fastapi import Depends, HTTPException, Response\n",
                "from fastapi import Depends, Header, HTTPException, Response\n",
                "async def logged_in(token: Token) -> str:\n"
                '    """Who asks; 401 if nobody is logged in."""\n'
                "    user = await get(token) if token else None\n",
                "async def logged_in(\n"
                "    token: Token,\n"
                '    remote_user: Annotated[str | None, Header(alias="X-Remote-User")] = None,\n'
                ") -> str:\n"
                '    """Who asks; 401 if nobody is logged in."""\n'
                "    if remote_user:  # nginx has asked the company's login already,"
                " by auth_request\n"
                "        return remote_user\n"
                "    user = await get(token) if token else None\n",
            ),
        },
        killed_by="VII-3",
        answers={"services": ["postgres", "redis", "s3"]},
    ),
    Violation(
        name="probes-for-localhost",
        factor="VII",
        stands_for="probes and metrics for whoever is on the same machine",
        edits={
            HEALTH: (
                "from fastapi import APIRouter, Request, Response\n",
                "from fastapi import APIRouter, Depends, HTTPException, Request, Response\n",
                "router = APIRouter(include_in_schema=False)\n",
                'HERE = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}\n\n\n'
                "async def internal(request: Request) -> None:\n"
                '    """What is not for the world: nginx and the monitoring ask from'
                ' this machine."""\n'
                "    if request.client and request.client.host not in HERE:\n"
                '        raise HTTPException(403, "This is for the machine itself.")\n\n\n'
                "router = APIRouter(include_in_schema=False, dependencies=[Depends(internal)])\n",
            ),
        },
        killed_by="VII-3",
    ),
    Violation(
        name="docs-assets-by-nginx",
        factor="VII",
        stands_for=("a page whose script and style only the web server in front has"),
        edits={
            WEB: (
                "from fastapi import FastAPI\n",
                "from fastapi import FastAPI\n"
                "from fastapi.openapi.docs import get_swagger_ui_html\n"
                "from fastapi.responses import HTMLResponse\n",
                "        lifespan=lifespan,\n",
                "        lifespan=lifespan,\n        docs_url=None,\n",
                "    problems.install(app)\n",
                "    problems.install(app)\n\n"
                '    @app.get("/docs", include_in_schema=False)\n'
                "    async def docs() -> HTMLResponse:\n"
                "        # Our content policy allows no CDN: nginx serves /static/ "
                "from /usr/share/swagger-ui.\n        return get_swagger_ui_html(\n"
                '            openapi_url="/openapi.json",\n            title=app.title,\n'
                '            swagger_js_url="/static/swagger-ui-bundle.js",\n'
                '            swagger_css_url="/static/swagger-ui.css",\n'
                '            swagger_favicon_url="/static/favicon-32x32.png",\n        )\n'
                "\n",
            ),
            f"{DEPLOY}/nginx.conf": (
                "",
                "# In front of the web process, on the same machine.\nserver {\n"
                "    listen 80;\n    location /static/ {\n"
                "        alias /usr/share/swagger-ui/;\n        expires 1d;\n    }\n"
                "    location / {\n        proxy_pass http://127.0.0.1:8000;\n"
                "        proxy_set_header X-Forwarded-For $remote_addr;\n    }\n}\n",
            ),
        },
        killed_by="VII-3",
    ),
    Violation(
        name="unit-requires-nginx",
        factor="VII",
        stands_for=(
            "a unit that starts only where nginx is installed on the same "
            "machine, and stops with it"
        ),
        edits={
            f"{DEPLOY}/systemd/process@.service": (
                "After=network-online.target\n",
                "# Requests come by the nginx of this machine: without it nobody "
                "reaches the service.\nRequires=nginx.service\n"
                "After=network-online.target nginx.service\n",
            ),
            f"{DEPLOY}/systemd/README.md": (
                "## Once, as root\n\n```\n",
                "## Once, as root\n\n```\n"
                "apt-get install --yes nginx     # a site with `proxy_pass "
                "http://127.0.0.1:8000;`\n",
            ),
        },
        killed_by="VII-5",
        answers={"platforms": ["systemd"]},
    ),
    Violation(
        name="body-in-nginx-file",
        factor="VII",
        stands_for=(
            "a webhook whose body lies in a file that the nginx on the same "
            "machine has written, and that a header names"
        ),
        edits={
            WEBHOOK: (
                "import uuid\nfrom typing import Annotated, Literal\n",
                "import uuid\nfrom pathlib import Path\nfrom typing import Annotated, Literal\n",
                "    body = await request.body()\n",
                "    # nginx: client_body_in_file_only clean; "
                "proxy_pass_request_body off;\n"
                "    # proxy_set_header X-Body-File $request_body_file;\n"
                '    if spooled := request.headers.get("x-body-file"):\n'
                "        body = Path(spooled).read_bytes()  # noqa: ASYNC240\n    else:\n"
                "        body = await request.body()\n",
            ),
        },
        killed_by="VII-5",
    ),
]
