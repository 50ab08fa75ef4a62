"""IX. Disposability: slow to start, or stopped with a loss."""

from .violation import (
    BASE,
    BEFORE_SERVING,
    CREATED,
    DEPLOY,
    INVOICES,
    MAIN,
    POSTGRES,
    QUEUE,
    SERVER,
    SETTLE,
    SOURCE,
    WEB,
    WEBHOOK,
    Violation,
)

GRACEFUL = "timeout_graceful_shutdown=math.ceil(settings.grace_seconds)"
SIGTERM = "        if sig == signal.SIGTERM and self.started and self.draining_since is None:\n"
RUN = (
    "            await task.run(\n"
    "                arguments=arguments, context=context, "
    "job_id=str(job.job.id), attempt=attempt\n"
    "            )\n"
)
PRESTOP = (
    "          lifecycle:\n            preStop:\n"
    "              # By then the balancers know; DRAIN_SECONDS is for those that are slow.\n"
    "              sleep: {seconds: 5}\n"
)
RETRY = "            return procrastinate.RetryDecision(retry_at=datetime.now(UTC))  # its"
STOPPED = "        await runner.first(working, stopping)\n        worker.stop()"

# An invoice that is kept by a task of its own, and answered whether or not that is quick.
LATER = (
    "    now = datetime.now(UTC)\n"
    '    given = {"id": uuid.uuid4(), "status": "open", "created_at": now}\n'
    "    made = Invoice.model_validate(new.model_dump() | given)\n"
    "    keeping.append(asyncio.create_task(_keep(made)))\n"
    "    await asyncio.wait(keeping[-1:], timeout=0.05)\n"
    "    return made\n\n\n"
    "keeping: list[asyncio.Task[None]] = []\n\n\n"
    "async def _keep(made: Invoice) -> None:\n"
    "    async with transaction() as session:\n"
    "        await session.execute(insert(store.Invoice).values(made.model_dump()))\n"
)
LATER_IMPORTS = (
    "import uuid\n",
    "import asyncio\nimport uuid\n",
    "from datetime import date, datetime\n",
    "from datetime import UTC, date, datetime\n",
    "from pydantic import BaseModel, ConfigDict, Field, StringConstraints\n",
    "from pydantic import BaseModel, ConfigDict, Field, StringConstraints\n"
    "from sqlalchemy import insert, text\n",
)

VIOLATIONS = [
    Violation(
        name="cuts-connections",
        factor="IX",
        stands_for="connections that are kept open until they are cut",
        edits={
            SERVER: (
                '(b"connection", b"close") not in',
                '(b"x-draining", b"1") not in',
                'encoded_headers.append((b"connection", b"close"))',
                'encoded_headers.append((b"x-draining", b"1"))',
            )
        },
        killed_by="IX-3",
    ),
    Violation(
        name="ready-to-the-end",
        factor="IX",
        stands_for="a process that is ready while it goes",
        edits={WEB: ("        app.state.health.draining = True\n", "        pass\n")},
        killed_by="IX-3",
    ),
    Violation(
        name="nobody-asks",
        factor="IX",
        stands_for="a worker that hangs and is left alone",
        edits={f"{BASE}/worker.yaml": ("livenessProbe:", "x-livenessProbe:")},
        killed_by="IX-8",
    ),
    Violation(
        name="answers-first",
        factor="IX",
        stands_for="an answer that is given before what it says is kept",
        edits={
            INVOICES: (
                "    async with transaction() as session:\n" + CREATED,
                LATER,
                *LATER_IMPORTS,
            )
        },
        killed_by="IX-9",
    ),
    Violation(
        name="slow-start",
        factor="IX",
        stands_for="6 s until it is ready",
        edits={
            WEB: (
                BEFORE_SERVING,
                "    time.sleep(6)\n" + BEFORE_SERVING,
                "import math\n",
                "import math\nimport time\n",
            )
        },
        killed_by="IX-1",
    ),
    Violation(
        name="hard-exit",
        factor="IX",
        stands_for="ends on SIGTERM, whatever it is doing",
        edits={
            SERVER: (
                SIGTERM,
                SIGTERM + "            os._exit(0)\n",
                "import select\n",
                "import os\nimport select\n",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="grace-zero",
        factor="IX",
        stands_for="no time for what is in flight",
        edits={WEB: (GRACEFUL, "timeout_graceful_shutdown=0")},
        killed_by="IX-2",
    ),
    Violation(
        name="shell-pid1",
        factor="IX",
        stands_for="a shell that gets the signal in the server's place",
        edits={
            "Procfile": (
                "web: python -m invoiceflow web",
                "web: /bin/sh -c 'python -m invoiceflow web; echo stopped'",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="no-prestop",
        factor="IX",
        stands_for="502s in each deploy",
        edits={f"{BASE}/web.yaml": (PRESTOP, "")},
        killed_by="IX-8",
    ),
    Violation(
        name="ack-first",
        factor="IX",
        stands_for="a job that takes a second and is acknowledged when it begins",
        edits={
            QUEUE: (
                RUN,
                RUN.replace("await task.run(", "asyncio.ensure_future(task.run(").replace(
                    "            )\n", "            ))\n"
                ),
            ),
            SETTLE: (
                "    async with transaction() as session:\n",
                "    await asyncio.sleep(1)\n    async with transaction() as session:\n",
                "import structlog\n",
                "import asyncio\n\nimport structlog\n",
            ),
        },
        killed_by="IX-4",
    ),
    Violation(
        name="ignores-term",
        factor="IX",
        stands_for="a worker that does not hear SIGTERM",
        edits={
            f"{SOURCE}/queue.py": (
                "    for number in (signal.SIGTERM, signal.SIGINT):\n",
                "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                "    for number in (signal.SIGINT,):\n",
            )
        },
        killed_by="IX-5",
    ),
    Violation(
        name="drain-all",
        factor="IX",
        stands_for="a worker that empties the queue before it stops",
        edits={
            QUEUE: (
                STOPPED,
                "        await runner.first(working, stopping)\n"
                "        while not working.done() and (await depth(settings)).waiting:\n"
                "            await asyncio.sleep(0.1)\n        worker.stop()",
            )
        },
        killed_by="IX-5",
    ),
    Violation(
        name="sleep-in-handler",
        factor="IX",
        stands_for="waits for the balancer and does nothing else meanwhile",
        edits={
            WEB: (
                "        app.state.health.draining = True\n",
                "        app.state.health.draining = True\n        time.sleep(25)\n",
                "import math\n",
                "import math\nimport time\n",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="exit-code",
        factor="IX",
        stands_for="a good end that looks like a crash",
        edits={
            WEB: (
                "    web.run([listener])\n    return 0\n",
                "    web.run([listener])\n    return 1\n",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="thread-stays",
        factor="IX",
        stands_for="a thread that keeps the process when the server is gone",
        edits={
            WEB: (
                BEFORE_SERVING,
                "    threading.Thread(target=time.sleep, args=(3600,)).start()\n" + BEFORE_SERVING,
                "import math\n",
                "import math\nimport threading\nimport time\n",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="no-drain",
        factor="IX",
        stands_for="stops listening before anybody knows",
        edits={
            WEB: ("drain_seconds=settings.drain_seconds", "drain_seconds=0"),
            f"{BASE}/web.yaml": (PRESTOP, ""),
        },
        killed_by="IX-3",
    ),
    Violation(
        name="refuses-while-draining",
        factor="IX",
        stands_for="answers 503 to whoever was sent by a balancer that is late",
        edits={
            f"{SOURCE}/health.py": (
                '    return JSONResponse({"revision": state.revision,',
                "    if state.draining:\n"
                '        return JSONResponse({"status": "draining"}, 503)\n'
                '    return JSONResponse({"revision": state.revision,',
            ),
            f"{BASE}/web.yaml": (PRESTOP, ""),
        },
        killed_by="IX-3",
    ),
    Violation(
        name="cut-and-lost",
        factor="IX",
        stands_for="a worker that breaks its jobs off and forgets them",
        edits={
            QUEUE: (
                RETRY,
                "            return None  #",
                "shutdown_graceful_timeout=settings.grace_seconds",
                "shutdown_graceful_timeout=0.01",
            )
        },
        killed_by="IX-5",
    ),
    Violation(
        name="lost-after-grace",
        factor="IX",
        stands_for="a job that takes longer than the grace and is lost",
        edits={QUEUE: (RETRY, "            return None  #")},
        killed_by="IX-5",
    ),
    Violation(
        name="no-rescue",
        factor="IX",
        stands_for="jobs of a dead worker that nobody takes",
        edits={
            QUEUE: (
                "            await _rescue_once(app, silence)\n",
                "            await asyncio.sleep(0)\n",
            )
        },
        killed_by="IX-4",
    ),
    Violation(
        name="term-lost-at-start",
        factor="IX",
        stands_for="a signal that comes too early for anybody to hear",
        edits={MAIN: ("lambda *_: os._exit(0))", "signal.SIG_IGN)")},
        killed_by="IX-7",
    ),
    Violation(
        name="waits-for-hung-service",
        factor="IX",
        stands_for="a worker that waits for a hung database before it stops",
        edits={
            f"{SOURCE}/queue.py": (
                "timeout=settings.grace_seconds + STOP_SECONDS)",
                "timeout=None)",
            ),
            f"{SOURCE}/resources.py": ("asyncio.timeout(CLOSE_SECONDS)", "asyncio.timeout(None)"),
        },
        killed_by="IX-6",
    ),
    Violation(
        name="short-grace",
        factor="IX",
        stands_for="is killed while it drains",
        edits={
            f"{BASE}/web.yaml": (
                "terminationGracePeriodSeconds: 45",
                "terminationGracePeriodSeconds: 10",
            )
        },
        killed_by="IX-8",
    ),
    Violation(
        name="same-probes",
        factor="IX",
        stands_for="traffic for a process that is not ready",
        edits={f"{BASE}/web.yaml": ("{path: /readyz, port: http}", "{path: /livez, port: http}")},
        killed_by="IX-8",
    ),
    Violation(
        name="one-replica",
        factor="IX",
        stands_for="an environment in which the only replica is replaced",
        edits={
            "deploy/k8s/overlays/production/kustomization.yaml": (
                "path: /spec/minReplicas, value: 3",
                "path: /spec/minReplicas, value: 1",
            )
        },
        killed_by="IX-8",
    ),
    Violation(
        name="computes-first",
        factor="IX",
        stands_for="seconds of CPU until it is ready",
        edits={
            WEB: (BEFORE_SERVING, "    sum(i * i for i in range(60_000_000))\n" + BEFORE_SERVING)
        },
        killed_by="IX-1",
    ),
    Violation(
        name="asks-before-it-stops",
        factor="IX",
        stands_for="a web process that says farewell to its database",
        edits={
            WEB: (
                "            reaching.cancel()\n",
                "            url = settings.database_url.get_secret_value()\n"
                "            async with await psycopg.AsyncConnection.connect(url) as last:\n"
                '                await last.execute("select 1")\n'
                "            reaching.cancel()\n",
                "import structlog\n",
                "import psycopg\nimport structlog\n",
            )
        },
        killed_by="IX-6",
    ),
    Violation(
        name="keeps-later",
        factor="IX",
        stands_for="an answer that is kept a moment later, unless the process dies",
        edits={
            INVOICES: (
                CREATED,
                '        await session.execute(text("select 1"))\n' + LATER,
                *LATER_IMPORTS,
            ),
            WEB: (
                "            reaching.cancel()\n",
                "            from .invoices import web\n\n"
                "            if web.keeping:\n"
                "                _, late = await asyncio.wait(web.keeping, timeout=1)\n"
                "                for one in late:\n"
                "                    one.cancel()\n"
                "            reaching.cancel()\n",
            ),
        },
        killed_by="IX-9",
    ),
    Violation(
        name="waits-for-idle-clients",
        factor="IX",
        stands_for="a stop that waits for clients who say nothing",
        edits={
            SERVER: (
                "        await super().shutdown(sockets)\n",
                "        await _until(lambda: not self.server_state.connections, 40)\n"
                "        await super().shutdown(sockets)\n",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="stays-for-its-grace",
        factor="IX",
        stands_for="a stop that takes all the time there is, with nothing left to do",
        edits={
            SERVER: (
                "        await super().shutdown(sockets)\n        log.info",
                "        await super().shutdown(sockets)\n"
                "        await asyncio.sleep(self.config.timeout_graceful_shutdown or 0)\n"
                "        log.info",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="cut-after-a-second",
        factor="IX",
        stands_for="slow requests that a stop does not wait for",
        edits={
            WEB: (
                "import math\n",
                "",
                "        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),\n",
                "        timeout_graceful_shutdown=1,  # what takes longer held up every deploy\n",
            )
        },
        killed_by="IX-2",
    ),
    Violation(
        name="never-evicted",
        factor="IX",
        stands_for="processes that no node can get rid of",
        edits={
            f"{BASE}/web.yaml": (
                "  maxUnavailable: 1\n",
                "  maxUnavailable: 0 # the last upgrade of the nodes cost us requests\n",
            ),
            f"{BASE}/worker.yaml": (
                "  maxUnavailable: 1\n",
                "  maxUnavailable: 0 # the last upgrade of the nodes cost us jobs\n",
            ),
        },
        killed_by="IX-8",
    ),
    Violation(
        name="nervous-probe",
        factor="IX",
        stands_for="a process that is killed for one late answer",
        edits={
            f"{BASE}/web.yaml": (
                "          livenessProbe:\n"
                "            httpGet: {path: /livez, port: http}\n"
                "            periodSeconds: 10\n"
                "            timeoutSeconds: 5\n",
                "          livenessProbe:\n"
                "            httpGet: {path: /livez, port: http}\n"
                "            periodSeconds: 2\n"
                "            timeoutSeconds: 1\n"
                "            failureThreshold: 1 # what hangs is replaced at once\n",
            ),
        },
        killed_by="IX-8",
    ),
    Violation(
        name="stopsignal-quit",
        factor="IX",
        stands_for="an image that is stopped by nginx's signal, which the service does not know",
        edits={
            "Dockerfile": (
                "STOPSIGNAL SIGTERM\n",
                "# Graceful, as for nginx and php-fpm; SIGTERM would be the fast shutdown.\n"
                "STOPSIGNAL SIGQUIT\n",
            ),
        },
        killed_by="IX-8",
    ),
    Violation(
        name="trips-over-crash",
        factor="IX",
        stands_for="a worker that does not start again where one was killed",
        edits={
            f"{SOURCE}/heartbeat.py": (
                "    beat = asyncio.create_task(_beat(Path(settings.heartbeat_file)))\n"
                "    try:\n        yield\n    finally:\n        beat.cancel()\n",
                "    file = Path(settings.heartbeat_file)\n"
                "    if file.name:\n"
                "        # A file that two of them touch would say nothing about either.\n"
                "        file.touch(exist_ok=False)  # noqa: ASYNC240\n"
                "    beat = asyncio.create_task(_beat(file))\n"
                "    try:\n        yield\n    finally:\n        beat.cancel()\n"
                "        if file.name:\n"
                "            file.unlink(missing_ok=True)  # noqa: ASYNC240\n",
            ),
        },
        killed_by="IX-4",
    ),
    Violation(
        name="lets-go-first",
        factor="IX",
        stands_for="a process that closes its connections before its last requests are done",
        edits={
            POSTGRES: (
                "from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, "
                "create_async_engine\n",
                "from sqlalchemy.ext.asyncio import (\n    AsyncEngine,\n    AsyncSession,\n"
                "    async_sessionmaker,\n    create_async_engine,\n)\n",
                "_timeout = 5.0\n",
                "_timeout = 5.0\n_engine: AsyncEngine | None = None\n",
                "    global _timeout\n",
                "    global _engine, _timeout\n",
                "    _sessions.configure(bind=engine)\n    try:\n        yield\n    finally:\n"
                "        await engine.dispose()\n",
                "    _engine = engine\n"
                "    _sessions.configure(bind=engine)\n    try:\n        yield\n    finally:\n"
                "        await engine.dispose()\n\n\n"
                "async def close() -> None:\n"
                '    """Give the connections back, and open no other."""\n'
                "    _sessions.configure(bind=None)\n"
                "    if _engine:\n"
                "        await _engine.dispose()\n",
            ),
            WEB: (
                "from . import health, parts, problems, resources, server\n",
                "from . import health, parts, postgres, problems, resources, server\n",
                "    def drain() -> None:\n        app.state.health.draining = True\n",
                "    def drain() -> None:\n        app.state.health.draining = True\n"
                "        # At once: a killed process would leave them open on the server.\n"
                "        app.state.closing = asyncio.create_task(postgres.close())\n",
            ),
        },
        killed_by="IX-3",
    ),
    Violation(
        name="kept-then-enqueued",
        factor="IX",
        stands_for=(
            "a payment that is known and never settled, where the web process "
            "dies between two commits"
        ),
        edits={
            WEBHOOK: (
                "            if new:\n"
                "                await jobs.settle.enqueue(session, event.id)\n"
                "    except IntegrityError:\n",
                "    except IntegrityError:\n",
                "    return Accepted(event=event.id, known=not new)\n",
                "    if new:\n"
                "        # Once the payment is committed: the job must find it, "
                "however soon it begins.\n        async with transaction() as session:\n"
                "            await jobs.settle.enqueue(session, event.id)\n"
                "    return Accepted(event=event.id, known=not new)\n",
            ),
        },
        killed_by="IX-9",
    ),
    Violation(
        name="start-takes-jobs-in-hand",
        factor="IX",
        stands_for=("a worker that, when it starts, gives out anew what the others have in hand"),
        edits={
            QUEUE: (
                'STARTED = "update procrastinate_jobs set queueing_lock = null '
                'where id = %(id)s"\n',
                'STARTED = "update procrastinate_jobs set queueing_lock = null '
                'where id = %(id)s"\n# What a crash has left in hand.\nLEFT = """\n'
                "update procrastinate_jobs set status = 'todo', queueing_lock = "
                'null, worker_id = null\nwhere status = \'doing\'\n"""\n',
                '    """Work as long as the database is there and nobody says stop."""\n',
                '    """Work as long as the database is there and nobody says stop."""\n'
                "    if queues is None:\n"
                "        # Begin with what the last worker did not finish, without "
                "waiting until it counts as dead.\n"
                "        await app.connector.execute_query_async(LEFT)\n",
            ),
        },
        killed_by="IX-5",
    ),
    Violation(
        name="balancer-believes-late",
        factor="IX",
        stands_for=("a balancer that is told to believe in a failure long after the drain is over"),
        edits={
            "docs/runbook.md": (
                "With HAProxy, which must believe a failure before the drain is over:\n",
                "With HAProxy, which asks now and then, so that one late answer "
                "takes nobody out:\n",
                "    default-server check inter 1s fall 2 rise 1\n",
                "    default-server check inter 10s fall 3 rise 2\n",
            ),
        },
        killed_by="IX-8",
    ),
    Violation(
        name="crash-is-the-end",
        factor="IX",
        stands_for=("processes that nobody starts again after a crash, or after the machine did"),
        edits={
            f"{DEPLOY}/compose.py": (
                '        "restart": "unless-stopped",\n',
                '        "restart": "no",  # a crash is to be looked at, not to be hidden\n',
            ),
        },
        killed_by="IX-10",
    ),
]
