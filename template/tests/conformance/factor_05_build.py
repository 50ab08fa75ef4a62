"""V Build, release, run: the pipelines build once, test first, and touch no server by hand."""

import math
import re

from .catalogue import check, require
from .kit import Kit
from .reading import (
    PIPELINES,
    Job,
    at,
    by_release,
    counts,
    floating,
    free_of,
    jobs,
    none,
    of_no_commit,
    pods,
    source,
    strings,
)

BUILDS = r"\b(docker|podman|buildah)\b.*\bbuild\b|\bkaniko\b|docker/build-push-action|\bbin/build\b"
TESTS = r"\b(pytest|unittest|tox|nox)\b|\./\.github/workflows/ci\.ya?ml"
PUSHES = r"\b(docker|podman|buildah)\s[^'\"|;&\n]*\bpush\b|--push\b|push['\"]?: True"
DEPLOYS = r"\b(kubectl|helm|flyctl|heroku|bin/deploy|kustomize)\b"
INSTALLS = re.compile(r"\b(add|install)\b")
LAX = r"['\"](continue-on-error|allow_failure)['\"]: True|(pytest|bin/ci).*\|\|\s*(true|:)"
COMMIT = r"(?i)GITHUB_SHA|github\.sha|CI_COMMIT_SHA|\brev-parse\b"
MERGE = r"branches:\s*(\[|- )\s*(main|master)|CI_DEFAULT_BRANCH"
FLOATS = re.compile(
    r"\buses:(?!\s*[\"']?(\.|\S+@[0-9a-f]{40}\b|\S+@sha256:))|:latest\b"
    r"|^\s*(- )?image:\s*[\"']?[a-z][\w./-]*[\"']?\s*$"
)
BY_HAND = re.compile(
    r"(?<![\w./-])(ssh|scp|rsync|sftp|sshpass|fab|ansible(-playbook)?)\s+[\w$\"'-]"
    r"|[\"'](ssh|scp|rsync)[\"']|\bimport (paramiko|fabric)\b"
    r"|\bkubectl\b.*?\s(exec|cp|edit|attach|patch|set|debug)\s|\bheroku run bash\b"
    r"|\b(docker|podman)\s+(compose\s+)?(exec|cp|commit)\s|\bsed\s+-i.*/(etc|srv|opt|var)/"
)
# A configuration that changes under its release, images that go.
MUTABLE = re.compile(
    r"disableNameSuffixHash: *true|delete-package-versions|(-X|--method)[ =]DELETE|crane delete"
)
SCRIPTS = (
    *("bin/*", "deploy/*", "scripts/*", "*.sh", "*Makefile", "justfile", "fabfile.py", "tasks.py"),
    *("Dockerfile", "Procfile", "pyproject.toml"),
)


@check("V-5", 25, 41, 42, 43, 80, 101, 111, needs=("Dockerfile",), fast=True)
def pipelines_build_once(kit: Kit) -> str:
    """A pipeline tests, builds the commit's one image in one job and deploys that by digest."""
    pipelines = jobs(kit)
    merged = any(re.search(MERGE, path.read_text()) for path in pipelines)
    require(merged, "no pipeline runs on a merge, in .github/workflows or .gitlab-ci.yml")
    free_of(kit, FLOATS, *PIPELINES)
    require(not floating(kit), f"the Dockerfile takes whatever {floating(kit)} is by then")
    for module, node, taken in strings(source(kit)):
        newest = "@latest" in taken
        require(not newest, f"{at(kit, module, node)}: {taken} changes without a release")
    builders: list[str] = []
    testers: list[str] = []
    pushes = False
    for path, found in pipelines.items():
        text = {name: f"{job.commands}\n{job.body}" for name, job in found.items()}
        builds = [name for name in found if re.search(BUILDS, text[name])]
        tests = {name for name in found if re.search(TESTS, text[name])}
        require(len(builds) < 2, f"{at(kit, path)}: several jobs build: {builds}")
        for name, job in found.items():
            before, deploys = _before(job, found), deployed_by(job)
            pushed = re.search(PUSHES, text[name])
            pushes |= bool(pushed)
            if pushed or deploys:
                require(tests & {name, *before}, f"{job.where}: goes out before any test")
            if deploys and name not in tests:
                require({*builds} <= before, f"{job.where}: deploys what it did not get built")
                given = re.search(r"(?i)digest|sha256|release", text[name])
                require(given, f"{job.where}: takes no digest")
            lax = name in tests and re.search(LAX, text[name])
            require(not lax, f"{job.where}: may fail and go on")
            known = name not in builds or re.search(COMMIT, text[name] + _modules(kit, text[name]))
            require(known, f"{job.where}: the image does not know its commit")
        builders, testers = [*builders, *builds], [*testers, *tests]
    require(builders and testers, f"jobs that build: {builders}, that test: {testers}")
    require(pushes, "no job pushes the image to where it is kept")
    return f"{', '.join(testers)} tests, {', '.join(builders)} builds; every action is pinned"


def deployed_by(job: Job) -> list[str]:
    """The steps by which a job deploys; to install a program for it is none."""
    actions = [f"{one.get('uses', '')} {one.get('with', '')}" for one in job.body.get("steps", [])]
    steps = [*job.commands.splitlines(), *actions]
    return [one for one in steps if re.search(DEPLOYS, one) and not INSTALLS.search(one)]


def _modules(kit: Kit, text: str) -> str:
    """The modules that bin/build, if it is used, runs in the place of a shell."""
    script = kit.root / "bin/build"
    used = script.exists() and re.search(r"\bbin/build\b", text)
    names = re.findall(r"\s-m (\w+)", script.read_text()) if used else []
    return "\n".join(path.read_text() for name in names for path in kit.matching(f"{name}/*.py"))


def _before(job: Job, found: dict[str, Job]) -> set[str]:
    """All jobs that have ended well when this one begins."""
    seen: set[str] = set()
    waiting = list(job.after)
    while waiting:
        if (name := waiting.pop()) in found and name not in seen:
            seen.add(name)
            waiting += found[name].after
    return seen


@check("V-6", 88, needs=("deploy/k8s",), fast=True)
def rollout_is_short(kit: Kit) -> str:
    """By its manifest a rollout is over within 180 s when each process starts within its 5 s."""
    times = {}
    for pod in pods(kit, "Deployment"):
        spec = pod.document["spec"]
        replicas = max(counts(kit, pod))
        rolling = spec.get("strategy", {}).get("rollingUpdate", {})
        surge = str(rolling.get("maxSurge", "25%"))
        more = math.ceil(replicas * int(surge[:-1]) / 100) if surge.endswith("%") else int(surge)
        stop = pod.spec.get("terminationGracePeriodSeconds", 30)
        steps = math.ceil(replicas / max(1, more))
        times[pod.process] = steps * (5 + spec.get("minReadySeconds", 0) + stop)
        seconds = times[pod.process]
        require(seconds <= 180, f"{pod.where}: {steps} steps take {seconds} s")
    require(times, "no Deployment")
    return ", ".join(f"{process}: {seconds} s" for process, seconds in times.items())


@check("V-11", 120, needs=("bin/rollback",), fast=True)
def the_way_back_is_written_down(kit: Kit) -> str:
    """A document says by which command a former release runs again, and no process looks at which
    one it is."""
    found = [path for path in kit.matching("*.md", "*.rst") if "bin/rollback" in path.read_text()]
    require(found, "no document names bin/rollback, and who looks for it has no time")
    none(by_release(kit))
    return ", ".join(at(kit, path) for path in found)


@check("V-7", 9, 39, 74, 106, fast=True)
def nobody_mutates_servers(kit: Kit) -> str:
    """No script and no pipeline copies files to a server, logs in there, changes what runs or
    takes a former release away; no process changes itself while it runs."""
    free_of(kit, MUTABLE, *PIPELINES, "deploy/*")
    none(of_no_commit(kit))
    return f"{free_of(kit, BY_HAND, *PIPELINES, *SCRIPTS)} lines of scripts and pipelines"
