"""I Codebase: one repository, one deployable; environments are no branches."""

import re
import subprocess
from typing import Any

import yaml

from .catalogue import check, require
from .factor_05_build import BUILDS, DEPLOYS
from .kit import Kit, git
from .reading import (
    COMPOSE,
    ENVIRONMENT,
    MANIFESTS,
    PIPELINES,
    at,
    image,
    jobs,
    lines,
    none,
    of_no_commit,
    pods,
    triggers,
)

OTHER_CODE = re.compile(r"\b(PYTHON(PATH|STARTUP|HOME|USERBASE)|LD_(PRELOAD|LIBRARY_PATH))\b")
GIT = r"\bgit\s+(-c\s+\S+\s+|-\S+\s+)*"
TAKES = re.compile(r"^ADD .*(://|git@)|\b(curl|wget|git clone)\b")  # into an image
CLONES = re.compile(rf"{GIT}(clone|pull|submodule update)\b")
COMMITS = re.compile(rf"{GIT}(commit|am|merge)\b")
BRANCH = re.compile(
    rf"(?i)(refs/heads/|\b(branch\w*|ref(_name|_slug)?|only)\b.*?[\"'\[\s,]){ENVIRONMENT}\b(?!\.)"
)


@check("I-2", 19, fast=True)
def only_the_commits_code(kit: Kit) -> str:
    """What runs is the code of the commit: no manifest, pipeline or data brings another one."""
    for where, line in (read := list(lines(kit, *MANIFESTS, *COMPOSE, "deploy/*.env"))):
        require(not OTHER_CODE.search(line), f"{where}: {line.strip()}")
    for pod in pods(kit):
        for mount in pod.container.get("volumeMounts", []):
            hides = re.match(r"/(app|usr|opt|src|lib|bin|home)\b", mount["mountPath"])
            require(not hides, f"{pod.where}: {mount['mountPath']} hides what was built")
    for job in [job for found in jobs(kit).values() for job in found.values()]:
        for step in job.body.get("steps", []):
            given = step.get("with", {}) if "/checkout@" in step.get("uses", "") else {}
            other = [one for one in ("repository", "ref") if str(given.get(one, "$"))[0] != "$"]
            require(not other, f"{job.where}: takes {given[other[0]] if other else ''}, no commit")
        require(not CLONES.search(job.commands), f"{job.where}: takes another repository's code")
        builds = re.search(BUILDS, job.commands) and COMMITS.search(job.commands)
        require(not builds, f"{job.where}: builds a commit that is made there and in no repository")
    ignored = ["ls-files", "--others", "--ignored", "--exclude-standard", "--", "*.py"]
    package = (kit.sources(kit.root) / kit.package).relative_to(kit.root).as_posix()
    for name in git(kit.root, *ignored).splitlines():
        require(not name.startswith(f"{package}/"), f"{name}: .gitignore keeps it out of commits")
    for word, rest in image(kit):
        taken = TAKES.search(f"{word} {rest}") if word in {"ADD", "RUN"} else None
        require(not taken, f"Dockerfile, {word} {rest}: takes what is in no commit")
    none(of_no_commit(kit))
    return f"{len(read)} lines and {len(pods(kit))} pods: nothing goes before what was built"


@check("I-3", 16, 17, fast=True)
def one_deployable(kit: Kit) -> str:
    """One repository holds one project, one image and one Procfile, which runs one package."""
    for name in ("pyproject.toml", "Dockerfile", "Procfile"):
        paths = kit.matching(name, f"*/{name}", f"*{name}.*")
        found = [str(path.relative_to(kit.root)) for path in paths]
        require(set(found) <= {name}, f"several: {found}")
    images = {pod.container["image"] for pod in pods(kit)}
    require(len(images) < 2, f"manifests start several images: {sorted(images)}")
    packages = {tuple(re.findall(r"-m\s+(\w+)", line)) for line in kit.procfile.values()}
    require(len(packages) == 1, f"Procfile runs several packages: {sorted(packages)}")
    return f"{len(kit.procfile)} process types of {''.join(*packages)}"


@check("I-4", 18, fast=True)
def no_environment_branches(kit: Kit) -> str:
    """Branches are for changes: none is an environment, and no pipeline waits for such a one."""
    command = ["git", "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/remotes"]
    run = subprocess.run(command, cwd=kit.root, capture_output=True, text=True)
    for name in (branches := run.stdout.split()):
        bad = re.fullmatch(rf"([^/]+/)?(env/|deploy/)?{ENVIRONMENT}", name)
        require(not bad, f"git has a branch {name}")
    listed = False  # the names below `branches:` may stand on lines of their own
    for where, line in (read := list(lines(kit, *PIPELINES))):
        begins = bool(re.match(r"\s*(branches|only):\s*$", line))
        listed = begins or (listed and line.lstrip().startswith("- "))
        named = listed and re.fullmatch(rf"\s*- [\"']?{ENVIRONMENT}[\"']?\s*", line)
        require(not named and not BRANCH.search(line), f"{where}: {line.strip()}")
    for path, found in jobs(kit).items():
        deploys = any(re.search(DEPLOYS, job.commands) for job in found.values())
        anything = deploys and _pushed(yaml.safe_load(path.read_text()))
        require(not anything, f"{at(kit, path)}: what is pushed to any branch is deployed")
    return f"{len(branches)} branches, {len(read)} lines of pipelines"


def _pushed(workflow: dict[Any, Any]) -> bool:
    """Whether a workflow of GitHub runs on a push to whatever branch."""
    push = triggers(workflow).get("push", {"tags": []}) or {}
    if not {"branches", "tags"} & {*push}:
        return True
    return any("*" in one for one in push.get("branches", []))
