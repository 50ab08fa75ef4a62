"""VII. Port binding: the process listens elsewhere, or needs another to be reached."""

from .violation import BASE, BEFORE_SERVING, CREATED, INVOICES, SERVER, SOURCE, WEB, Violation

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
        name="accel-redirect",
        factor="VII",
        stands_for="a document that the nginx before the service has to send in its place",
        edits={
            f"{SOURCE}/invoices/documents.py": (
                "from fastapi import APIRouter, HTTPException\n",
                "from fastapi import APIRouter, HTTPException, Request, Response\n",
                "async def get(invoice_id: uuid.UUID) -> StreamingResponse:\n",
                "async def get(invoice_id: uuid.UUID, request: Request) -> Response:\n"
                "    key = pdf.key(invoice_id)\n"
                '    if "x-forwarded-for" in request.headers and await s3.size(key):\n'
                "        # Behind nginx, which sends files better: its location /objects/ is the"
                " bucket.\n"
                '        sent = {"X-Accel-Redirect": f"/objects/{key}"}\n'
                '        return Response(headers=sent, media_type="application/pdf")\n',
            )
        },
        killed_by="VII-6",
        answers={"services": ["postgres", "redis", "s3"]},
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
]
