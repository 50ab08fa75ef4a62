"""What no schema sees in Kubernetes manifests: references, numbers that fit, and practice."""

import re
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

API = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
}
CHOICES = {
    "policyTypes": {"Ingress", "Egress"},
    "protocol": {"TCP", "UDP"},
    "restartPolicy": {"Never"},
    "topologyKey": {"kubernetes.io/hostname", "topology.kubernetes.io/zone"},
    "type": {"ClusterIP", "Recreate", "RollingUpdate", "RuntimeDefault"},
    "unhealthyPodEvictionPolicy": {"AlwaysAllow"},
    "whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
}
# Pod Security "restricted", and what it leaves open.
POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {
        "fsGroup": 10001,
        "runAsGroup": 10001,
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
CONTAINER = {
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
}
NAME_LABEL = "app.kubernetes.io/name"
OUTSIDE = {("Secret", "secrets")}  # made by hand, before anything else
CLOSING_SECONDS = 5
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
QUANTITY = re.compile(r"[1-9][0-9]*(m|Ki|Mi|Gi)?")
SECRET = re.compile(r"SECRET|PASSWORD|TOKEN|CREDENTIAL|_KEY$|_URL$|_DSN$")


def faults(objects: list[Object], *, processes: set[str], settings: dict[str, Any]) -> list[str]:
    """What is wrong, as sentences.

    processes: those that have a manifest.
    settings: every variable that the service reads, with its default.
    """
    pods = [made for made in objects if made["kind"] in {"Deployment", "Job"}]
    return [
        *_forms(objects),
        *_processes(pods, processes),
        *_references(objects, pods),
        *_selectors(objects, pods),
        *_probes(pods),
        *_environment(objects, pods, settings),
        *_isolation(pods),
        *_network(objects, pods),
        *_rollouts(objects),
    ]


def _forms(objects: list[Object]) -> Iterator[str]:
    for made in objects:
        kind, name = made["kind"], made["metadata"]["name"]
        if made["apiVersion"] != API.get(kind):
            yield f"{kind} of {made['apiVersion']} is not known here"
        if not LABEL.fullmatch(name):
            yield f"{kind} {name} is not a name"
        for key, value in _walk(made):
            if key in CHOICES and value not in CHOICES[key]:
                yield f"{kind} {name}: {key} cannot be {value}"


def _processes(pods: list[Object], processes: set[str]) -> Iterator[str]:
    started = []
    for made, container in _containers(pods):
        started += container.get("args", ["nothing"])
        if "command" in container:
            yield f"{_label(made)} has a command of its own"
        if (made["kind"] == "Job") != (container.get("args") == ["release"]):
            yield f"{_label(made)} is no place for {container.get('args')}"
    if sorted(started) != sorted(processes):
        yield f"started are {sorted(started)}, the Procfile has {sorted(processes)}"


def _references(objects: list[Object], pods: list[Object]) -> Iterator[str]:
    there = {(made["kind"], made["metadata"]["name"]) for made in objects} | OUTSIDE
    accounts = {"Secret": "secretRef", "ConfigMap": "configMapRef"}
    for made, container in _containers(pods):
        pod = _pod(made)
        wanted = [("ServiceAccount", pod.get("serviceAccountName", "default"))]
        for source in container["envFrom"]:
            wanted += [
                (kind, source[ref]["name"]) for kind, ref in accounts.items() if ref in source
            ]
        for kind, name in wanted:
            if (kind, name) not in there:
                yield f"{_label(made)} refers to {kind} {name}, which is not there"
        volumes = {volume["name"] for volume in pod["volumes"]}
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                yield f"{_label(made)} mounts {mount['name']}, which is not there"


def _selectors(objects: list[Object], pods: list[Object]) -> Iterator[str]:
    for made in objects:
        for selector in _selectors_of(made):
            if NAME_LABEL not in selector:
                yield f"{_label(made)} selects other services' pods"
            own = [made] if made in pods else pods
            selected = [pod for pod in own if selector.items() <= _labels(pod).items()]
            if not selected:
                yield f"{_label(made)} selects no pod"
            ports = {port for pod in selected for port in _ports(pod)}
            for port in _ports_wanted(made) - ports:
                yield f"{_label(made)} wants port {port}, which is not there"


def _probes(pods: list[Object]) -> Iterator[str]:
    for made, container in _containers(pods):
        kinds = ("startupProbe", "livenessProbe", "readinessProbe")
        found = [container[kind] for kind in kinds if kind in container]
        if made["kind"] == "Deployment" and not _ports(made):
            beat = {pair["value"] for pair in container["env"] if pair["name"] == "HEARTBEAT_FILE"}
            commands = [" ".join(probe["exec"]["command"]) for probe in found]
            if len(commands) != 2 or not all(file in one for file in beat for one in commands):
                yield f"{_label(made)} does not look at the file that it touches"
            continue
        probes = [probe["httpGet"] for probe in found]
        if bool(_ports(made)) != (len(probes) == len(kinds)):
            yield f"{_label(made)} has {len(probes)} probes"
        for probe in probes:
            if probe["port"] not in _ports(made):
                yield f"{_label(made)} is probed on {probe['port']}, which is not there"
        if probes and [probe["path"] for probe in probes] != ["/livez", "/livez", "/readyz"]:
            yield f"{_label(made)}: start and life are /livez, only traffic is /readyz"


def _environment(
    objects: list[Object], pods: list[Object], settings: dict[str, Any]
) -> Iterator[str]:
    configs = [made["data"] for made in objects if made["kind"] == "ConfigMap"]
    shared = {name: value for config in configs for name, value in config.items()}
    for made, container in _containers(pods):
        pairs = [(pair["name"], pair["value"]) for pair in container.get("env", [])]
        if len(pairs) > len(dict(pairs)):
            yield f"{_label(made)} sets a variable twice"
        given = shared | dict(pairs)
        for name, value in given.items():
            if name not in settings:
                yield f"{_label(made)} sets {name}, which nothing reads"
            if SECRET.search(name) or "@" in value:
                yield f"{_label(made)} shows a secret: {name}"
        values = settings | given
        if _ports(made) and _ports(made) != {"http": int(values["PORT"])}:
            yield f"{_label(made)} listens on {values['PORT']}, its port says otherwise"
        if made["kind"] == "Deployment":
            stop = (
                container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            )
            drain = float(values["DRAIN_SECONDS"]) if _ports(made) else 0
            needed = stop + drain + float(values["GRACE_SECONDS"]) + CLOSING_SECONDS
            if _pod(made).get("terminationGracePeriodSeconds", 30) < needed:
                yield f"{_label(made)} needs a grace period of {needed:g} s"
            if _ports(made) and not stop:
                yield f"{_label(made)} stops before balancers know"


def _isolation(pods: list[Object]) -> Iterator[str]:
    for made, container in _containers(pods):
        pod = _pod(made)
        for part, wanted in ((pod, POD), (container, CONTAINER)):
            for key, value in wanted.items():
                if part.get(key) != value:
                    yield f"{_label(made)} has {key}: {part.get(key)}"
        if hosts := [key for key in pod if key.startswith("host")]:
            yield f"{_label(made)} shares the host's {hosts}"
        for volume in pod["volumes"]:
            if "sizeLimit" not in volume.get("emptyDir", {}):
                yield f"{_label(made)} has a volume without a limit: {volume['name']}"
        if [mount["mountPath"] for mount in container["volumeMounts"]] != ["/tmp"]:  # noqa: S108  # in the pod
            yield f"{_label(made)} can write elsewhere than in /tmp"
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        # No limit of CPU on purpose: it would only slow a process on an idle machine.
        if {"cpu", *limits} != {*requests} or {*limits} != {"memory", "ephemeral-storage"}:
            yield f"{_label(made)} asks for {[*requests]} and is limited in {[*limits]}"
        if requests.get("memory") != limits.get("memory"):
            yield f"{_label(made)} may use memory that it did not ask for"
        for amount in (*requests.values(), *limits.values()):
            if not QUANTITY.fullmatch(str(amount)):
                yield f"{_label(made)}: {amount} is no quantity"


def _network(objects: list[Object], pods: list[Object]) -> Iterator[str]:
    policies = [made["spec"] for made in objects if made["kind"] == "NetworkPolicy"]
    for pod in pods:
        closed: set[str] = set()
        for policy in policies:
            if policy["podSelector"].get("matchLabels", {}).items() <= _labels(pod).items():
                closed.update(policy["policyTypes"])
                if {} in [*policy.get("ingress", []), *policy.get("egress", [])]:
                    yield f"{_label(pod)} may talk to everybody"
        if closed != {"Ingress", "Egress"}:
            yield f"{_label(pod)} is open to the network"
    for made in objects:
        if (
            made["kind"] == "ServiceAccount"
            and made.get("automountServiceAccountToken") is not False
        ):
            yield f"{_label(made)} gives its token away"


def _rollouts(objects: list[Object]) -> Iterator[str]:
    for made in objects:
        spec = made.get("spec", {})
        if made["kind"] == "Deployment":
            strategy, replicas = spec["strategy"], spec["replicas"]
            if _component(made) == "clock":
                if (strategy, replicas) != ({"type": "Recreate"}, 1):
                    yield f"{_label(made)} may be there twice"
            elif strategy.get("rollingUpdate", {}).get("maxUnavailable") != 0 or replicas < 2:
                yield f"{_label(made)} has a gap in each rollout"
            if not all(key in spec for key in ("minReadySeconds", "progressDeadlineSeconds")):
                yield f"{_label(made)} does not notice a rollout that fails"
        if made["kind"] == "PodDisruptionBudget" and spec.get("maxUnavailable") != 1:
            yield f"{_label(made)} blocks the maintenance of nodes"
        if made["kind"] == "Job" and _pod(made).get("restartPolicy") != "Never":
            yield f"{_label(made)} cannot restart a pod otherwise than by a new one"
        if made["kind"] == "Job" and not all(
            key in spec
            for key in ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
        ):
            yield f"{_label(made)} may run for ever"


def _label(made: Object) -> str:
    return f"{made['kind']} {made['metadata']['name']}"


def _component(made: Object) -> Any:
    return made["metadata"]["labels"].get("app.kubernetes.io/component")


def _pod(made: Object) -> Object:
    pod: Object = made["spec"]["template"]["spec"]
    return pod


def _labels(made: Object) -> dict[str, str]:
    labels: dict[str, str] = made["spec"]["template"]["metadata"]["labels"]
    return labels


def _containers(pods: list[Object]) -> Iterator[tuple[Object, Object]]:
    for made in pods:
        for container in _pod(made)["containers"]:
            yield made, container


def _ports(made: Object) -> dict[str, int]:
    """The named ports of a pod."""
    ports = (port for _, container in _containers([made]) for port in container.get("ports", []))
    return {port["name"]: port["containerPort"] for port in ports}


def _ports_wanted(made: Object) -> set[str]:
    """The ports of its pods that a Service or a policy names."""
    spec = made["spec"]
    if made["kind"] == "Service":
        return {port["targetPort"] for port in spec["ports"]}
    rules = spec.get("ingress", []) if made["kind"] == "NetworkPolicy" else []
    return {port["port"] for rule in rules for port in rule.get("ports", [])}


def _selectors_of(made: Object) -> Iterator[dict[str, str]]:
    spec = made.get("spec", {})
    if made["kind"] == "Service":
        yield spec["selector"]
    if made["kind"] == "NetworkPolicy":
        yield spec["podSelector"].get("matchLabels", {})
    if made["kind"] in {"Deployment", "PodDisruptionBudget"}:
        yield spec["selector"]["matchLabels"]
    if made["kind"] == "Deployment":
        for constraint in _pod(made).get("topologySpreadConstraints", []):
            yield constraint["labelSelector"]["matchLabels"]


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar with the key that it stands below."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, key)
    else:
        yield key, value
