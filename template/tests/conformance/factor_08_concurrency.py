"""VIII Concurrency: every process type is started by a manifest, and scales alone."""

import ast
import re

from .catalogue import check, require
from .kit import Kit
from .reading import (
    BY_HAND,
    at,
    counts,
    free_commands,
    free_of,
    manifests,
    name_of,
    nodes,
    none,
    of_the_machine,
    pods,
    services,
    source,
    strings,
    words,
)

SEVERAL = re.compile(
    r"WEB_CONCURRENCY|UVICORN_WORKERS|GUNICORN_CMD_ARGS"
    r"|(--workers|--processes|\s-w)[ =]?([2-9]|1\d)"
)
DAEMON = re.compile(
    r"--daemon(ize)?\b|\bgunicorn\b.*\s-D\b|--pid(file)?\b|[^&]&(\s|$)"
    r"|\b(nohup|supervisord|circusd|honcho|foreman|systemctl|s6-svscan|runit|pm2)\b"
)
BACKGROUND = re.compile(r"(fork|forkpty|setsid|daemon(ize)?|Daemon(Context|Runner)|PID(Lock)?File)")


@check("VIII-1", 7, 11, 54, 73, needs=("deploy/k8s",), fast=True)
def process_types_are_the_manifests(kit: Kit) -> str:
    """Manifests start what the Procfile lists: a Deployment each, a Job if it ends."""
    made = [pod.process for pod in pods(kit)]
    wanted = set(kit.procfile) - (BY_HAND - set(made))
    differ = f"manifests start {sorted(made)}, the Procfile has {sorted(wanted)}"
    require(sorted(made) == sorted(wanted), differ)
    for pod in pods(kit):
        ends = pod.process in {"release", "migrate"} | BY_HAND
        job = pod.document["kind"] in {"Job", "CronJob"}
        require(job or not ends, f"{pod.where}: {pod.process} ends by itself and is no Job")
    own = {name for _, name, body in services(kit) if "build" in body}
    require(not own or own == wanted, f"compose starts {sorted(own)}, not {sorted(wanted)}")
    return ", ".join(f"{pod.process}: {pod.document['kind']}" for pod in pods(kit))


@check("VIII-4", 52, 55, 85, needs=("deploy/k8s",), fast=True)
def each_type_scales_alone(kit: Kit) -> str:
    """Each process type has its own Deployment, number and resources, and one process in a pod."""
    found, selectors = pods(kit, "Deployment", "StatefulSet"), []
    require(found, "no Deployment")
    for pod in found:
        require(len(pod.spec["containers"]) == 1, f"{pod.where}: several containers in one pod")
        resources = pod.container.get("resources", {})
        asked, limits = resources.get("requests", {}), resources.get("limits", {})
        require({"cpu", "memory"} <= {*asked}, f"{pod.where}: requests {sorted(asked)}")
        require("memory" in limits, f"{pod.where}: no limit of memory")
        spec = pod.document["spec"]
        placed = [pod.spec.get("nodeSelector"), pod.spec.get("affinity", {}).get("nodeAffinity")]
        bound = "nodeName" in pod.spec or "kubernetes.io/hostname" in str(placed)
        require(not bound, f"{pod.where}: on one machine alone")
        require(min(counts(kit, pod)) > 0, f"{pod.where}: in no replica")
        require(spec["selector"] not in selectors, f"{pod.where}: selects the pods of another")
        selectors.append(spec["selector"])
        require(not {*"&;|"} & {*" ".join(words(kit, pod.container))}, f"{pod.where}: a shell")
    numbered = {
        pod.document["metadata"]["name"] for pod in found if "replicas" in pod.document["spec"]
    }
    for path, document in manifests(kit):
        target = document.get("spec", {}).get("scaleTargetRef", {}).get("name")
        twice = document["kind"] == "HorizontalPodAutoscaler" and target in numbered
        require(not twice, f"{at(kit, path)}: {target} has a number that each deploy goes back to")
        own = str(target).rpartition("-")[2]
        follows = re.search(rf"component[=:'\" ]+(?!{own}\b)\w", str(document.get("spec")))
        require(not target or not follows, f"{at(kit, path)}: {target} in the number of another")
        mode = document.get("spec", {}).get("updatePolicy", {}).get("updateMode", "Auto")
        bigger = document["kind"] == "VerticalPodAutoscaler" and mode != "Off"
        require(not bigger, f"{at(kit, path)}: bigger pods in the place of more of them")
    free_of(kit, SEVERAL, "Procfile", "Dockerfile", "deploy/*")
    free_commands(kit, SEVERAL)
    for path, node in nodes(source(kit)):
        if isinstance(node, ast.keyword) and node.arg == "workers":
            one = getattr(node.value, "value", 2) in (None, 1)
            require(one, f"{at(kit, path, node)}: several server processes")
    return ", ".join(f"{pod.process}: {min(counts(kit, pod))}" for pod in found)


@check("VIII-5s", 53, fast=True)
def no_daemon_in_the_code(kit: Kit) -> str:
    """Nothing goes to the background, writes a PID file, brings a process manager along or asks on
    which machine it is."""
    read = free_commands(kit, DAEMON)
    for path, node in nodes(source(kit)):
        called = name_of(node.func) if isinstance(node, ast.Call) else ""
        bad = BACKGROUND.fullmatch(called) or getattr(node, "arg", "") == "start_new_session"
        require(not bad, f"{at(kit, path, node)}: {called or 'start_new_session'}")
    none(of_the_machine(kit))
    for path, node, text in strings(source(kit)):
        require(not re.search(r"\.pid$|^/(var/)?run/", text), f"{at(kit, path, node)}: {text}")
    return f"{read} commands, {len(source(kit))} modules"
