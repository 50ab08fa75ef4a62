"""VIII. Concurrency: one process does another's work, or two do the same."""

from .violation import BASE, DEPLOY, MAIN, QUEUE, SOURCE, WEB, WEBHOOK, WORKER, Violation

LIFESPAN = "            yield\n"
SETTLED = "                await jobs.settle.enqueue(session, event.id)\n"

VIOLATIONS = [
    Violation(
        name="worker-in-web",
        factor="VIII",
        stands_for="a web process that drains the queue beside its requests",
        edits={
            WEB: (
                LIFESPAN,
                "            resources.load(parts.JOBS)\n"
                "            stopping = asyncio.Event()\n"
                "            serving = queue_postgres.serve(settings, stopping)\n"
                "            working = asyncio.create_task(serving)\n"
                "            yield\n            stopping.set()\n            await working\n",
                "from . import health, parts, problems, resources, server\n",
                "from . import health, parts, problems, queue_postgres, resources, server\n",
            )
        },
        killed_by="VIII-2",
    ),
    Violation(
        name="work-in-request",
        factor="VIII",
        stands_for="a request that does the job itself",
        edits={
            WEBHOOK: (SETTLED, "                await store.settle(session, event_id=event.id)\n")
        },
        killed_by="VIII-2",
    ),
    Violation(
        name="background-task",
        factor="VIII",
        stands_for="a job that runs in the web process after the answer",
        edits={
            WEBHOOK: (
                SETTLED,
                "                background.add_task(jobs.settle, event.id)\n",
                "request: Request, ",
                "request: Request, background: BackgroundTasks, ",
                "import APIRouter, Header",
                "import APIRouter, BackgroundTasks, Header",
            )
        },
        killed_by="VIII-2",
    ),
    Violation(
        name="drift",
        factor="VIII",
        stands_for="a process type of the Procfile that no manifest starts",
        edits={f"{BASE}/kustomization.yaml": ("  - clock.yaml\n", "")},
        killed_by="VIII-1",
    ),
    Violation(
        name="no-skip-locked",
        factor="VIII",
        stands_for="a job that two workers take",
        edits={
            f"{SOURCE}/migrations/versions/queue_0001.py": (
                '.replace("%", "%%")',
                '.replace("FOR UPDATE OF jobs SKIP LOCKED", "").replace("%", "%%")',
            )
        },
        killed_by="VIII-3",
    ),
    Violation(
        name="single-worker",
        factor="VIII",
        stands_for="a lock by which one worker works at a time",
        edits={
            QUEUE: (
                "    app = _app()\n    while",
                "    url = settings.database_url.get_secret_value()\n"
                "    alone = await psycopg.AsyncConnection.connect(url, autocommit=True)\n"
                "    while queues is None and not stopping.is_set():\n"
                '        taken = await alone.execute("select pg_try_advisory_lock(77)")\n'
                "        if (await taken.fetchone() or [0])[0]:\n            break\n"
                "        await asyncio.sleep(0.2)\n"
                "    app = _app()\n    while",
                "import procrastinate\n",
                "import procrastinate\nimport psycopg\n",
            )
        },
        killed_by="VIII-3",
    ),
    Violation(
        name="child-process",
        factor="VIII",
        stands_for="a helper that the platform does not see",
        edits={
            WEB: (
                "    app = create(settings)\n",
                "    helper = multiprocessing.Process(target=time.sleep, args=(99,), daemon=True)\n"
                "    helper.start()\n    app = create(settings)\n",
                "import math\n",
                "import math\nimport multiprocessing\nimport time\n",
            )
        },
        killed_by="VIII-5",
    ),
    Violation(
        name="pid-file",
        factor="VIII",
        stands_for="a PID file, where one can be written",
        edits={
            MAIN: (
                "    if process in SERVING:\n",
                "    with suppress(OSError):\n"
                '        Path(f"/tmp/{process}.pid").write_text(str(os.getpid()))\n'
                "    if process in SERVING:\n",
                "import signal\n",
                "import os\nimport signal\n",
                "from importlib import import_module\n",
                "from contextlib import suppress\nfrom importlib import import_module\n",
                "from importlib.util import find_spec\n",
                "from importlib.util import find_spec\nfrom pathlib import Path\n",
            )
        },
        killed_by="VIII-5",
    ),
    Violation(
        name="jobs-one-by-one",
        factor="VIII",
        stands_for="a worker that takes the whole backlog for itself",
        edits={
            WORKER: (
                "    return queue.work(settings, queue_postgres.serve,",
                '    settings = settings.model_copy(update={"worker_concurrency": 1000})\n'
                "    return queue.work(settings, queue_postgres.serve,",
            )
        },
        killed_by="VIII-3",
    ),
    Violation(
        name="one-pod",
        factor="VIII",
        stands_for="a worker in the pod of the web process",
        edits={
            f"{BASE}/web.yaml": (
                "      volumes:\n        - name: tmp\n",
                "        - name: helper\n          image: service\n          args: [worker]\n"
                "      volumes:\n        - name: tmp\n",
            )
        },
        killed_by="VIII-4",
    ),
    Violation(
        name="no-limit",
        factor="VIII",
        stands_for="a process that takes the memory of its neighbours",
        edits={
            f"{BASE}/web.yaml": ("limits: {memory: 256Mi, ephemeral", "limits: {ephemeral"),
        },
        killed_by="VIII-4",
    ),
    Violation(
        name="ends-by-itself",
        factor="VIII",
        stands_for="a worker that ends now and then, for somebody to start it again",
        edits={
            WORKER: (
                "    resources.load(parts.JOBS)\n",
                "    resources.load(parts.JOBS)\n"
                "    end = threading.Timer(5, os.kill, (os.getpid(), signal.SIGTERM))\n"
                "    end.daemon = True\n"
                "    end.start()\n",
                "\nfrom . import parts,",
                "\nimport os\nimport signal\nimport threading\n\nfrom . import parts,",
            )
        },
        killed_by="VIII-5",
    ),
    Violation(
        name="does-it-itself",
        factor="VIII",
        stands_for="a web process that loses patience with its workers",
        edits={
            WEBHOOK: (
                "    return Accepted(event=event.id, known=not new)\n",
                "    if new:\n"
                "        task = asyncio.create_task(impatient(event.id))\n"
                "        waiting.add(task)\n"
                "        task.add_done_callback(waiting.discard)\n"
                "    return Accepted(event=event.id, known=not new)\n",
                "import hashlib\n",
                "import asyncio\nimport contextlib\nimport hashlib\n",
                "",
                "\n\nwaiting: set[asyncio.Task[None]] = set()\n\n\n"
                "async def impatient(event_id: str) -> None:\n"
                "    with contextlib.suppress(Exception):\n"
                "        await asyncio.sleep(1.5)\n"
                "        await jobs.settle(event_id)\n",
            )
        },
        killed_by="VIII-2",
    ),
    Violation(
        name="pid-on-demand",
        factor="VIII",
        stands_for="a PID file for whoever sends a signal for it",
        edits={
            WEB: (
                "    app = create(settings)\n",
                "    app = create(settings)\n"
                '    run = "/run/invoiceflow.pid"\n'
                "    signal.signal(signal.SIGUSR1, lambda *_: os.symlink(str(os.getpid()), run))\n",
                "import math\n",
                "import math\nimport os\nimport signal\n",
            )
        },
        killed_by="VIII-5s",
    ),
    Violation(
        name="timer-in-web",
        factor="VIII",
        stands_for="a sweep by the clock that every web process does for itself",
        edits={
            WEB: (
                "from .config import Settings\n",
                "from .config import Settings\nfrom .invoices import dunning\n",
                "        async with resources.attach(settings):\n",
                "        async def remind() -> None:\n"
                "            # Once a day is too seldom, and this is no work for a process of its"
                " own.\n"
                "            while True:\n"
                "                try:\n"
                "                    await dunning.remind_overdue()\n"
                "                except Exception as error:\n"
                '                    log.warning("reminders.late", reason=type(error).__name__)\n'
                "                await asyncio.sleep(60)\n"
                "\n"
                "        async with resources.attach(settings):\n",
                "            reaching = asyncio.create_task(reach())\n            yield\n",
                "            reaching = asyncio.create_task(reach())\n"
                "            reminding = asyncio.create_task(remind())\n"
                "            yield\n"
                "            reminding.cancel()\n",
            )
        },
        killed_by="VIII-6",
    ),
    Violation(
        name="grows",
        factor="VIII",
        stands_for="a web process that is made bigger where there should be more of them",
        edits={
            f"{BASE}/web.yaml": (
                "  name: web\n"
                "  labels:\n"
                "    app.kubernetes.io/component: web\n"
                "spec:\n"
                "  # No number of replicas: the autoscaler below has it.\n",
                "  name: web\n"
                "  labels:\n"
                "    app.kubernetes.io/component: web\n"
                "  annotations:\n"
                "    replicas: overlay # says how many\n"
                "spec:\n"
                "  replicas: 2\n",
                "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\n",
                "apiVersion: autoscaling.k8s.io/v1\nkind: VerticalPodAutoscaler\n",
                "  scaleTargetRef:\n"
                "    apiVersion: apps/v1\n"
                "    kind: Deployment\n"
                "    name: web\n"
                "  minReplicas: 2\n"
                "  maxReplicas: 10\n"
                "  metrics:\n"
                "    - type: Resource\n"
                "      resource:\n"
                "        name: cpu\n"
                "        # Of the one core that a process can use.\n"
                "        target: {type: AverageValue, averageValue: 600m}\n"
                "  behavior:\n"
                "    scaleDown:\n"
                "      stabilizationWindowSeconds: 300\n",
                "  targetRef:\n"
                "    apiVersion: apps/v1\n"
                "    kind: Deployment\n"
                "    name: invoiceflow-web\n"
                "  updatePolicy:\n"
                "    updateMode: Auto\n"
                "  resourcePolicy:\n"
                "    containerPolicies:\n"
                "      - containerName: web\n"
                "        minAllowed: {cpu: 100m, memory: 256Mi}\n"
                '        maxAllowed: {cpu: "8", memory: 16Gi}\n',
            ),
            f"{DEPLOY}/k8s/overlays/staging/kustomization.yaml": (
                "  - target: {kind: HorizontalPodAutoscaler}\n"
                "    patch: |\n"
                "      - {op: replace, path: /spec/minReplicas, value: 2}\n"
                "      - {op: replace, path: /spec/maxReplicas, value: 4}\n",
                "",
            ),
            f"{DEPLOY}/k8s/overlays/production/kustomization.yaml": (
                "  - target: {kind: HorizontalPodAutoscaler}\n"
                "    patch: |\n"
                "      - {op: replace, path: /spec/minReplicas, value: 3}\n"
                "      - {op: replace, path: /spec/maxReplicas, value: 20}\n",
                "",
            ),
        },
        killed_by="VIII-4",
    ),
    Violation(
        name="replicas-beside-autoscaler",
        factor="VIII",
        stands_for="a deploy that takes back the processes that the load has called for",
        edits={
            f"{BASE}/web.yaml": (
                "  # No number of replicas: the autoscaler below has it.\n",
                "  replicas: 2\n",
            ),
        },
        killed_by="VIII-4",
    ),
    Violation(
        name="pinned-to-one-core",
        factor="VIII",
        stands_for=("processes that all pin themselves to the same core, however many there are"),
        edits={
            MAIN: (
                "from importlib import import_module\n",
                "from contextlib import suppress\nfrom importlib import import_module\n",
                "    if process in SERVING:\n",
                "    if process in SERVING:\n"
                "        # An event loop uses one core: always on the same one, it "
                "keeps its caches warm.\n"
                "        with suppress(AttributeError, OSError):  # not every "
                "system can, or lets us\n"
                "            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n",
            ),
        },
        killed_by="VIII-5",
    ),
    Violation(
        name="workers-follow-web",
        factor="VIII",
        stands_for=("as many workers as there are web processes, whatever waits for them"),
        edits={
            f"{DEPLOY}/k8s/components/keda/postgres.yaml": (
                "# One worker more for every hundred jobs that wait: what /metrics "
                "of a web process counts too.\n",
                "# One worker for each web process: more requests are more jobs.\n",
                "    - type: postgresql\n      metadata:\n"
                "        connectionFromEnv: DATABASE_URL\n        query: >-\n"
                "          select count(*) from procrastinate_jobs\n"
                "          where status = 'todo' and queue_name = 'default'\n"
                '        targetQueryValue: "100"\n',
                "    - type: kubernetes-workload\n      metadata:\n        podSelector: "
                "app.kubernetes.io/name=invoiceflow,app.kubernetes.io/component=web\n"
                '        value: "1"\n',
            ),
            f"{DEPLOY}/k8s/components/keda/kustomization.yaml": (
                "# KEDA scales the workers by what waits for them: the number is "
                "no longer the overlay's.\n",
                "# KEDA scales the workers along with web: the number is no longer "
                "the overlay's.\n",
            ),
            f"{DEPLOY}/k8s/overlays/production/kustomization.yaml": (
                "components: []\n",
                "components: [../../components/keda]\n",
            ),
            f"{DEPLOY}/k8s/overlays/staging/kustomization.yaml": (
                "components: []\n",
                "components: [../../components/keda]\n",
            ),
        },
        killed_by="VIII-4",
    ),
    Violation(
        name="queue-of-the-machine",
        factor="VIII",
        stands_for=(
            "jobs that only a worker on the same machine takes as the web "
            "process that asked for them"
        ),
        edits={
            QUEUE: (
                "import asyncio\nimport logging\n",
                "import asyncio\nimport logging\nimport socket\n",
                'NONE = "clock"  # a queue without jobs\n',
                'NONE = "clock"  # a queue without jobs\n'
                "# Each machine works off what it has taken in, so that none waits "
                'for another\'s.\nHERE = socket.gethostname().partition(".")[0][:32]\n',
                "values ('default', %(job)s, %(key)s, %(values)s) on conflict",
                "values (%(queue)s, %(job)s, %(key)s, %(values)s) on conflict",
                '        row = {"job": message.job, "key": message.key, "values": '
                "orjson.dumps(values).decode()}\n",
                '        row = {"job": message.job, "key": message.key, "values": '
                'orjson.dumps(values).decode()}\n        row["queue"] = HERE\n',
                "    await _work(settings, stopping, None)\n",
                '    await _work(settings, stopping, [HERE, "default"])  # default: the clock\'s\n',
                "status = 'todo' and queue_name = 'default'),",
                "status = 'todo' and queue_name <> 'clock'),",
            ),
        },
        killed_by="VIII-5s",
    ),
    Violation(
        name="pinned-to-a-machine",
        factor="VIII",
        stands_for=(
            "processes that all have to run on one machine of the cluster, which has a name"
        ),
        edits={
            f"{BASE}/web.yaml": (
                "      enableServiceLinks: false\n",
                "      enableServiceLinks: false\n"
                "      # The big machine, which was bought for this.\n      nodeSelector:\n"
                "        kubernetes.io/hostname: billing-1\n",
            ),
            f"{BASE}/worker.yaml": (
                "      enableServiceLinks: false\n",
                "      enableServiceLinks: false\n"
                "      # The big machine, which was bought for this.\n      nodeSelector:\n"
                "        kubernetes.io/hostname: billing-1\n",
            ),
        },
        killed_by="VIII-4",
    ),
]
