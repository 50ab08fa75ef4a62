"""What no schema sees in Kubernetes manifests: references, numbers that fit, and practice."""

import json
import re
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

API = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "ExternalSecret": "external-secrets.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Ingress": "networking.k8s.io/v1",
    "Job": "batch/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
}
# The specifications that come from outside Kubernetes have no schema here: every key that we use of
# Gateway API 1.6, External Secrets 1 and KEDA 2, and the type of its value.
SHAPES: dict[str, Any] = {
    "ExternalSecret": {
        "dataFrom": [{"extract": {"key": str}}],
        "refreshInterval": str,
        "secretStoreRef": {"kind": str, "name": str},
        "target": {"name": str},
    },
    "HTTPRoute": {
        "hostnames": [str],
        "parentRefs": [{"name": str, "namespace": str}],
        "rules": [{"backendRefs": [{"name": str, "port": int}]}],
    },
    "ScaledObject": {
        "maxReplicaCount": int,
        "minReplicaCount": int,
        "scaleTargetRef": {"name": str},
        "triggers": [dict],
    },
    "TriggerAuthentication": {"secretTargetRef": [{"key": str, "name": str, "parameter": str}]},
}
TRIGGERS: dict[str, Any] = {
    "postgresql": {
        "metadata": {"connectionFromEnv": str, "query": str, "targetQueryValue": str},
        "type": str,
    },
    "rabbitmq": {
        "metadata": {"hostFromEnv": str, "mode": str, "queueName": str, "value": str},
        "type": str,
    },
    "redis": {
        "authenticationRef": {"name": str},
        "metadata": {"listLength": str, "listName": str},
        "type": str,
    },
}
CHOICES = {
    "mode": {"QueueLength"},
    "pathType": {"Prefix"},
    "policyTypes": {"Ingress", "Egress"},
    "protocol": {"TCP", "UDP"},
    "restartPolicy": {"Never"},
    "topologyKey": {"kubernetes.io/hostname", "topology.kubernetes.io/zone"},
    "type": {
        *("AverageValue", "ClusterIP", "Recreate", "Resource", "RollingUpdate", "RuntimeDefault"),
        *TRIGGERS,
    },
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
RESTRICTED = {
    "pod-security.kubernetes.io/audit": "restricted",
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "v1.30",
    "pod-security.kubernetes.io/warn": "restricted",
}
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
LABELS = {
    *("app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "app.kubernetes.io/version"),
    *(NAME_LABEL, COMPONENT_LABEL),
}
# What two environments may differ in, beside their namespace.
COUNTS = {"minReplicas", "maxReplicas", "replicas"}
SHARED = {"ConfigMap", "ExternalSecret", "Namespace", "ServiceAccount"}
# Made before anything else, by hand or by what a cluster has for it.
OUTSIDE = {("Secret", "keda"), ("Secret", "secrets"), ("Secret", "web-tls")}
# Argo CD's marks: settings, then the migration, then all others.
WAVE = "argocd.argoproj.io/sync-wave"
HOOK = {
    "argocd.argoproj.io/hook": "Sync",
    "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
}
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
        *_places(objects),
        *_labelling(objects, pods),
        *_processes(pods, processes),
        *_references(objects, pods),
        *_selectors(objects, pods),
        *_probes(pods),
        *_environment(objects, pods, settings),
        *_isolation(pods),
        *_network(objects, pods),
        *_rollouts(objects),
        *_scaling(objects),
        *_ways_in(objects),
        *_from_outside(objects, settings),
        *_waves(objects),
    ]


def differences(these: list[Object], those: list[Object]) -> list[str]:
    """What two environments differ in that is neither a count nor their namespace."""
    one, other = (dict(_leaves(_placeless(objects))) for objects in (these, those))
    return [
        f"{path} is {one.get(path)} here, {other.get(path)} there"
        for path in sorted(one.keys() | other.keys(), key=str)
        if one.get(path) != other.get(path) and path[-1] not in COUNTS
    ]


def _forms(objects: list[Object]) -> Iterator[str]:
    for made in objects:
        kind, name = made["kind"], made["metadata"]["name"]
        if made["apiVersion"] != API.get(kind):
            yield f"{kind} of {made['apiVersion']} is not known here"
        if not LABEL.fullmatch(name):
            yield f"{kind} {name} is not a name"
        for path, value in _leaves(made):
            key = [step for step in path if isinstance(step, str)][-1]
            if key in CHOICES and value not in CHOICES[key]:
                yield f"{kind} {name}: {key} cannot be {value}"


def _places(objects: list[Object]) -> Iterator[str]:
    namespaces = [made for made in objects if made["kind"] == "Namespace"]
    for namespace in namespaces:
        if not RESTRICTED.items() <= namespace["metadata"].get("labels", {}).items():
            yield f"{_label(namespace)} lets in more than is restricted"
    [place] = [made["metadata"]["name"] for made in namespaces] or [None]
    for made in objects:
        if made["kind"] != "Namespace" and made["metadata"].get("namespace") != place:
            yield f"{_label(made)} is not in the namespace {place}"


def _labelling(objects: list[Object], pods: list[Object]) -> Iterator[str]:
    """A release applies first what has no component, then its Job, then the other components."""
    components = {_component(pod) for pod in pods}
    for pod in pods:
        if missing := LABELS - _labels(pod).keys():
            yield f"{_label(pod)} has pods without {sorted(missing)}"
        if _component(pod) != _labels(pod).get(COMPONENT_LABEL):
            yield f"{_label(pod)} is another component than its pods"
    for made in objects:
        if _component(made) not in {None, *components}:
            yield f"{_label(made)} belongs to no process type: {_component(made)}"
        everywhere = _component(made) is None
        if everywhere != (made["kind"] in SHARED or made["metadata"]["name"].endswith("-default")):
            yield f"{_label(made)} is of the component {_component(made)}"


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
            strategy = spec["strategy"]
            replicas = spec.get("replicas") or _least(objects, made)
            if _component(made) == "clock":
                if (strategy, replicas) != ({"type": "Recreate"}, 1):
                    yield f"{_label(made)} may be there twice"
            elif strategy.get("rollingUpdate", {}).get("maxUnavailable") != 0 or replicas < 2:
                yield f"{_label(made)} has a gap in each rollout"
            if not all(key in spec for key in ("minReadySeconds", "progressDeadlineSeconds")):
                yield f"{_label(made)} does not notice a rollout that fails"
            covered = [one for one in objects if one["kind"] == "PodDisruptionBudget"]
            selectors = [one["spec"]["selector"]["matchLabels"] for one in covered]
            if replicas > 1 and not any(one.items() <= _labels(made).items() for one in selectors):
                yield f"{_label(made)} may lose all its pods at once to maintenance"
        if made["kind"] == "PodDisruptionBudget" and spec.get("maxUnavailable") != 1:
            yield f"{_label(made)} blocks the maintenance of nodes"
        if made["kind"] == "Job" and _pod(made).get("restartPolicy") != "Never":
            yield f"{_label(made)} cannot restart a pod otherwise than by a new one"
        if made["kind"] == "Job" and not all(
            key in spec
            for key in ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
        ):
            yield f"{_label(made)} may run for ever"


def _ways_in(objects: list[Object]) -> Iterator[str]:
    """Ingress and HTTPRoute lead to a port of a Service, by TLS."""
    ports = {
        (made["metadata"]["name"], value)
        for made in objects
        if made["kind"] == "Service"
        for port in made["spec"]["ports"]
        for value in (port["name"], port["port"])
    }
    for made in objects:
        wanted = []
        if made["kind"] == "Ingress":
            rules = made["spec"]["rules"]
            for path in [path for rule in rules for path in rule["http"]["paths"]]:
                service = path["backend"]["service"]
                wanted += [(service["name"], *service["port"].values())]
            hosts = [host for one in made["spec"].get("tls", []) for host in one["hosts"]]
            if hosts != [rule.get("host") for rule in rules]:
                yield f"{_label(made)} has a host without TLS"
            for one in made["spec"].get("tls", []):
                if ("Secret", one.get("secretName")) not in OUTSIDE:
                    yield f"{_label(made)} has no certificate {one.get('secretName')}"
        if made["kind"] == "HTTPRoute":
            backends = [one for rule in made["spec"]["rules"] for one in rule["backendRefs"]]
            wanted += [(one["name"], one.get("port")) for one in backends]
        for service in wanted:
            if service not in ports:
                yield f"{_label(made)} leads to {service}, which is not there"


def _from_outside(objects: list[Object], settings: dict[str, Any]) -> Iterator[str]:
    names = {(made["kind"], made["metadata"]["name"]) for made in objects} | OUTSIDE
    for made in objects:
        spec = made.get("spec", {})
        yield from _misshapen(spec, SHAPES.get(made["kind"], dict), _label(made))
        wanted = [("Secret", one["name"]) for one in spec.get("secretTargetRef", [])]
        if made["kind"] == "ExternalSecret":
            wanted += [("Secret", spec["target"].get("name", made["metadata"]["name"]))]
        for trigger in spec.get("triggers", []):
            shape = TRIGGERS.get(trigger["type"], {})
            yield from _misshapen(trigger, shape, f"{_label(made)}, trigger")
            for key, value in trigger["metadata"].items():
                if key.endswith("FromEnv") and value not in settings:
                    yield f"{_label(made)} looks at {value}, which nothing reads"
            if "authenticationRef" in trigger:
                wanted += [("TriggerAuthentication", trigger["authenticationRef"].get("name"))]
        for one in wanted:
            if one not in names:
                yield f"{_label(made)} needs {one}, which is not there"


def _misshapen(value: Any, shape: Any, where: str) -> Iterator[str]:
    """Where a value has other keys or types than its shape."""
    if isinstance(shape, type):
        if not isinstance(value, shape):
            yield f"{where} is {value}"
    elif isinstance(shape, list):
        for inner in value:
            yield from _misshapen(inner, shape[0], where)
    elif strange := value.keys() ^ shape.keys():
        yield f"{where} has or lacks {sorted(strange)}"
    else:
        for key, inner in value.items():
            yield from _misshapen(inner, shape[key], f"{where}, {key}")


def _waves(objects: list[Object]) -> Iterator[str]:
    marks = [made["metadata"].get("annotations", {}) for made in objects]
    if not any(WAVE in one for one in marks):
        return
    for made, mark in zip(objects, marks, strict=True):
        one_off = made["kind"] == "Job"
        wave = -2 if _component(made) is None else -1 if one_off else 0
        if int(mark.get(WAVE, 0)) != wave:
            yield f"{_label(made)} is of wave {mark.get(WAVE)}, not {wave}"
        if {key: mark[key] for key in HOOK.keys() & mark} != (HOOK if one_off else {}):
            yield f"{_label(made)} is in the way of the next sync"


def _scaling(objects: list[Object]) -> Iterator[str]:
    deployments = {
        made["metadata"]["name"]: made for made in objects if made["kind"] == "Deployment"
    }
    for made, name, least, most in _scalers(objects):
        if name not in deployments:
            yield f"{_label(made)} scales {name}, which is not there"
        elif "replicas" in deployments[name]["spec"]:
            yield f"{_label(made)} and {name} both say how many"
        if least >= most:
            yield f"{_label(made)} scales nothing"


def _scalers(objects: list[Object]) -> Iterator[tuple[Object, str, int, int]]:
    """What scales a Deployment: itself, that one's name, and between which numbers."""
    keys = {
        "HorizontalPodAutoscaler": ("minReplicas", "maxReplicas"),
        "ScaledObject": ("minReplicaCount", "maxReplicaCount"),
    }
    for made in objects:
        if made["kind"] in keys:
            spec = made["spec"]
            least, most = (spec.get(key, 0) for key in keys[made["kind"]])
            yield made, spec["scaleTargetRef"]["name"], least, most


def _least(objects: list[Object], deployment: Object) -> int:
    """The replicas below which an autoscaler does not go, 1 without one."""
    own = deployment["metadata"]["name"]
    return max((least for _, name, least, _ in _scalers(objects) if name == own), default=1)


def _placeless(objects: list[Object]) -> list[Object]:
    """The same without the name of the namespace."""
    [place] = [made["metadata"]["name"] for made in objects if made["kind"] == "Namespace"]
    text: list[Object] = json.loads(json.dumps(objects).replace(json.dumps(place), '"namespace"'))
    return text


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every scalar with the way to it."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _label(made: Object) -> str:
    return f"{made['kind']} {made['metadata']['name']}"


def _component(made: Object) -> Any:
    return made["metadata"].get("labels", {}).get(COMPONENT_LABEL)


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
