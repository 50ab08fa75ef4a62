"""VI Processes: no request is bound to a replica, and no replica keeps anything."""

import ast
import re

from .catalogue import check, require
from .kit import Kit
from .reading import at, free_of, name_of, pods, source

STICKY = re.compile(
    r"sessionAffinity(?![\"']?\s*:\s*[\"']?None\b)|sessionPersistence|consistentHash"
    r"|\bip_hash\b|\bbalance\s+source\b|stick-table|\bcookie\s+\w+\s+insert\b|stickiness\s*\{"
    r"|(affinity|sticky|stickiness)[\w./-]*[\"']?\s*[:=]\s*[\"']?(cookie|true|enabled|1|ClientIP|\{)"
    r"|session-cookie-|affinity-(mode|cookie)|(lb|app)_cookie|sticky\.cookie"
)
CONTAINERS = {
    *("dict", "list", "set", "defaultdict", "deque", "Counter", "OrderedDict", "TTLCache"),
    *("LRUCache", "WeakValueDictionary", "WeakKeyDictionary", "WeakSet", "Queue", "Event"),
    *("Condition", "Future"),
}
FILLS = {
    *("add", "append", "appendleft", "extend", "insert", "put", "put_nowait", "setdefault"),
    *("update", "set", "set_result", "notify", "notify_all"),
}
GONE_WITH_IT = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "projected", "secret"),
}


@check("VI-5", 2, 47, 89, needs=("deploy/k8s",), fast=True)
def no_stickiness(kit: Kit) -> str:
    """No manifest, patch or proxy ties a client to one replica."""
    files = ("deploy/*", "*.yaml", "*.yml", "*.tf", "*.conf", "*.cfg")
    return f"{free_of(kit, STICKY, *files)} lines, no affinity"


@check("VI-8", 44, 46, 105, fast=True)
def nothing_in_memory(kit: Kit) -> str:
    """No request and no job leaves anything in a variable of the process for the next one."""
    for path, tree in (modules := source(kit)).items():
        kept = {name: made for node in tree.body for name, made in _containers(node)}
        for function in ast.walk(tree):
            if not isinstance(function, ast.AsyncFunctionDef):
                continue
            if {"asynccontextmanager"} & {*map(name_of, function.decorator_list)}:
                continue  # what is attached once, when the process starts
            for node in ast.walk(function):
                shared = node.names if isinstance(node, ast.Global) else _filled(node, kept)
                where = f"{at(kit, path, node)}, {function.name}"
                require(not shared, f"{where}: keeps something in {', '.join(shared)}")
    return f"{len(modules)} modules"


def _containers(node: ast.AST) -> list[tuple[str, str]]:
    """The names that a statement of a module gives to an empty container, and what makes it."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    value = node.value
    empty = isinstance(value, ast.Dict | ast.List) and not ast.unparse(value)[1:-1]
    made = isinstance(value, ast.Call) and name_of(value.func) in CONTAINERS
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    by = name_of(value.func) if isinstance(value, ast.Call) else ""
    return [(name_of(one), by) for one in targets] if empty or made else []


def _filled(node: ast.AST, names: dict[str, str]) -> list[str]:
    """The one of these containers into which this puts something."""
    target: ast.AST | None = None
    if isinstance(node, ast.Subscript):
        by = names.get(name_of(node.value))  # one with a default is filled by a look, too
        target = node.value if isinstance(node.ctx, ast.Store) or by == "defaultdict" else None
    elif isinstance(node, ast.Call) and name_of(node.func) in FILLS:
        target = getattr(node.func, "value", None)
    return [target.id] if isinstance(target, ast.Name) and target.id in names else []


@check("VI-7", 20, 39, 44, 46, 105, needs=("deploy/k8s",), fast=True)
def pods_keep_nothing(kit: Kit) -> str:
    """A pod can change nothing of its image, and what it writes beside it goes with the pod."""
    found = pods(kit)
    for pod in found:
        may = pod.spec.get("securityContext", {}) | pod.container.get("securityContext", {})
        require(may.get("readOnlyRootFilesystem") is True, f"{pod.where}: may change its image")
        other = may.get("runAsNonRoot") is True and may.get("runAsUser") != 0
        require(other, f"{pod.where}: may run as root")
        for volume in pod.spec.get("volumes", []):
            kept = {*volume} - {"name"} - GONE_WITH_IT
            require(not kept, f"{pod.where}: volume {volume['name']} outlives it: {sorted(kept)}")
        claims = "volumeClaimTemplates" in pod.document["spec"]
        require(not claims, f"{pod.where}: each replica has a volume that outlives it")
    return f"{len(found)} manifests: read-only images, and volumes that go with the pod"
