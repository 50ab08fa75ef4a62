"""X. Dev/prod parity: development or the tests run on something else."""

from .violation import DELIVERY, PIPELINE, SOURCE, Violation

VIOLATIONS = [
    Violation(
        name="version-drift",
        factor="X",
        stands_for="another major version of the database in development",
        edits={"compose.yaml": ("postgres:18", "postgres:16")},
        killed_by="X-1",
    ),
    Violation(
        name="sqlite-dev",
        factor="X",
        stands_for="SQLite on a laptop",
        edits={"dev/postgres.py": ("", '\nLOCAL = "sqlite:///.dev/database"\n')},
        killed_by="X-3",
    ),
    Violation(
        name="python-drift",
        factor="X",
        stands_for="tests on another Python than production's",
        edits={PIPELINE: ('python-version: "3.14"', 'python-version: "3.12"')},
        killed_by="X-1",
    ),
    Violation(
        name="other-command",
        factor="X",
        stands_for="a manifest that starts something else than the Procfile",
        edits={"deploy/k8s/base/worker.yaml": ("args: [worker]", "args: [worker, --fast]")},
        killed_by="X-2",
    ),
    Violation(
        name="memory-queue",
        factor="X",
        stands_for="a queue in memory where nobody looks",
        edits={
            f"{SOURCE}/queue_testing.py": (
                "",
                '"""Jobs in memory, for a laptop."""\n\n'
                "from procrastinate.testing import InMemoryConnector\n\n"
                "connector = InMemoryConnector()\n",
            )
        },
        killed_by="X-3",
    ),
    Violation(
        name="other-settings",
        factor="X",
        stands_for="an environment that is set otherwise where nobody looks",
        edits={
            "deploy/k8s/overlays/production/kustomization.yaml": (
                "path: /spec/minReplicas",
                "path: /spec/behavior/scaleDown/stabilizationWindowSeconds",
            )
        },
        killed_by="X-6",
    ),
    Violation(
        name="weekly-delivery",
        factor="X",
        stands_for="what is merged waits for a Monday",
        edits={
            DELIVERY: (
                "  push:\n    branches: [main]\n",
                "  schedule:\n    - cron: '0 6 * * 1' # of main, CI_DEFAULT_BRANCH\n",
            )
        },
        killed_by="X-4",
    ),
    Violation(
        name="staging-by-hand",
        factor="X",
        stands_for="what is merged waits until somebody presses a button",
        edits={
            ".gitlab-ci.yml": (
                "run-staging:\n  extends: .deliver",
                "run-staging:\n  extends: .by_hand",
            )
        },
        killed_by="X-4",
        answers={"flavor": "api", "ci": "gitlab"},
    ),
    Violation(
        name="overlay-values",
        factor="X",
        stands_for="a setting of production that lies beside its counts",
        edits={
            "deploy/k8s/overlays/production/kustomization.yaml": (
                "components: []\n",
                "components: []\n"
                "configMapGenerator:\n"
                "  - name: config\n"
                "    behavior: merge\n"
                "    literals: [LOG_LEVEL=DEBUG]\n",
            )
        },
        killed_by="X-6",
    ),
]
