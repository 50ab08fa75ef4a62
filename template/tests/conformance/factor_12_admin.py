"""XII Admin processes: one-offs run in the release's own environment, and by no hand."""

import ast
import re

from .catalogue import check, require
from .factor_05_build import BY_HAND, DEPLOYS
from .kit import Kit
from .reading import (
    PIPELINES,
    Pod,
    at,
    free_of,
    image,
    jobs,
    name_of,
    nodes,
    pods,
    source,
    strings,
    words,
)
from dev.__main__ import ONE_OFF

TYPED = re.compile(
    r"(?<![\w./-])(psql|mysql|mongosh?|redis-cli|valkey-cli|sqlplus|alembic upgrade"
    r"|manage\.py migrate|flask db upgrade)\b"
)

# Production's secrets on somebody's own machine.
FETCHED = re.compile(r"\bkubectl\b[^|;&]*\bget\s+secrets?\b")
# Or on a pipeline's, which is no process of the release.
HANDED = re.compile(r"\bsecrets\.\w*(DATABASE|POSTGRES|MYSQL|REDIS|AMQP|RABBITMQ|_DB_|S3_)\w*")
# What somebody decides to do, once; a process that runs on would do it again and again.
BY_A_PERSON = re.compile(r"(^|_)(replay|migrate|backfill|reindex|vacuum)(_|$)")
# What takes away more than this release has made.
EMPTIES = re.compile(r"(?is)\bdrop\s+(schema|database|table)\b|\btruncate\s+\w")
SCRIPTS = ("bin/*", "scripts/*", "*.sh", "*Makefile", "justfile")


@check("XII-3", 72, needs=("release", "deploy/k8s"), fast=True)
def job_is_the_deployment(kit: Kit) -> str:
    """A one-off runs in the image, configuration and account of the processes that run on."""
    one_offs, serving = pods(kit, "Job", "CronJob"), pods(kit, "Deployment", "StatefulSet")
    require(one_offs and serving, "no Job, or no Deployment")
    for job in one_offs:
        for other in serving:
            ours, theirs = _place(job), _place(other)
            require(ours == theirs, f"{job.where}: {ours}, {other.where}: {theirs}")
        require("env" not in job.container, f"{job.where}: sets variables for itself alone")
    return f"{_place(one_offs[0])} of {len(one_offs) + len(serving)} manifests"


def _place(pod: Pod) -> tuple[str, ...]:
    """Image, account and sources of variables; whether one may be missing is another matter."""
    sources = [
        f"{kind} {reference['name']}"
        for source in pod.container.get("envFrom", [])
        for kind, reference in source.items()
        if isinstance(reference, dict)
    ]
    return (pod.container["image"], str(pod.spec.get("serviceAccountName")), *sources)


@check("XII-7", 73, 109, 118, needs=("release", "deploy/k8s"), fast=True)
def migrations_are_a_job(kit: Kit) -> str:
    """A Job runs the release, no other process migrates, and a pipeline waits for it first."""
    release = kit.procfile["release"]
    found = [pod for pod in pods(kit, "Job") if pod.process == "release"]
    require(len(found) == 1, f"{len(found)} Jobs run the release")
    (job,) = found
    runs = " ".join(words(kit, job.container))
    require(runs == release, f"{job.where}: `{runs}`, the Procfile has `{release}`")
    ends = job.spec.get("restartPolicy") == "Never"
    ends = ends and job.document["spec"].get("activeDeadlineSeconds")
    require(ends, f"{job.where}: may run for ever")
    migrates = re.compile(rf"{re.escape(release)}|\balembic\b|\bmigrat|\brelease\b\W*(&&|;|$)")
    others = [
        (f"Procfile, {name}", line) for name, line in kit.procfile.items() if name != "release"
    ]
    others += [(f"Dockerfile, {word}", rest) for word, rest in image(kit) if word in {"RUN", "CMD"}]
    for pod in pods(kit, "Deployment", "StatefulSet"):
        others += [(pod.where, " ".join(words(kit, pod.container)))]
        others += [(pod.where, str(pod.container.get("lifecycle", {}).get("postStart", "")))]
        others += [(pod.where, str(one)) for one in pod.spec.get("initContainers", [])]
    for where, text in others:
        require(not migrates.search(text.rstrip("]'\"}")), f"{where}: {text}")
    for one in [one for pipeline in jobs(kit).values() for one in pipeline.values()]:
        typed = re.search(DEPLOYS, one.commands) and TYPED.search(one.commands)
        require(not typed, f"{one.where}: migrates from the pipeline's own machine")
        before, rolls, _ = one.commands.partition("rollout status")
        waits = re.search(r"wait.*(release|migrat)|(release|migrat).*wait", before)
        require(waits or not rolls, f"{one.where}: rolls out before the migration is done")
    return f"{job.where}: {release}"


@check("XII-11", 72, 73, needs=("release",), fast=True)
def no_task_by_request(kit: Kit) -> str:
    """No process that runs on takes in the code of a one-off, or does its work: that is started
    by somebody, not called. Nothing but a migration takes data away."""
    tasks = {name for name in ONE_OFF if name in kit.procfile}
    for path, node in nodes(modules := source(kit)):
        if path.name == "__main__.py" or path.stem in tasks:
            continue
        found = {one.name for one in getattr(node, "names", []) if isinstance(one, ast.alias)}
        found = {one.rpartition(".")[2] for one in found} if own(kit, node) else set()
        if isinstance(node, ast.ImportFrom) and own(kit, node):
            found.add(str(node.module).rpartition(".")[2])
        require(not found & tasks, f"{at(kit, path, node)}: takes in {sorted(found & tasks)}")
        called = name_of(node.func) if isinstance(node, ast.Call) else ""
        require(not BY_A_PERSON.search(called), f"{at(kit, path, node)}: {called}, unasked")
    for path, node, text in strings(modules):
        empties = path not in kit.migrations and EMPTIES.search(text)
        require(not empties, f"{at(kit, path, node)}: {text[:60]}")
    return f"{len(modules)} modules, none takes in {', '.join(sorted(tasks))}"


def own(kit: Kit, node: ast.AST) -> bool:
    """Whether this imports from the service itself."""
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or str(node.module).partition(".")[0] == kit.package
    names = node.names if isinstance(node, ast.Import) else []
    return any(one.name.startswith(f"{kit.package}.") for one in names)


@check("XII-8", 74, 109, fast=True)
def no_manual_steps(kit: Kit) -> str:
    """No document and no script has a person log in, enter a container or change a database."""
    seen = sum(free_of(kit, one, *SCRIPTS) for one in (TYPED, BY_HAND, FETCHED))
    free_of(kit, HANDED, *PIPELINES)
    for path in kit.matching("*.md", "*.rst"):
        fenced = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            fenced ^= line.lstrip().startswith(("```", "~~~"))
            commands = (
                [line]
                if fenced or line.startswith("    ")
                else re.findall(r"`([^`]+ [^`]+)`", line)
            )
            seen += len(commands)
            for one in commands:
                typed = TYPED.search(one) and "bin/dev" not in one
                hand = BY_HAND.search(f"{one} ") or FETCHED.search(one)
                require(not typed and not hand, f"{at(kit, path, number)}: {one}")
    require(seen or not kit.matching("*.md"), "no command in any document")
    return f"{seen} commands in documents and lines of scripts"
