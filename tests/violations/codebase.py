"""I. Codebase: what runs does not say which commit it is."""

from .violation import DELIVERY, HEALTH, LOGS, MAIN, WEB, Violation

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
]
