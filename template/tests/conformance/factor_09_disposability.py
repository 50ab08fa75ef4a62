"""IX Disposability: the times of the manifests leave a process room to stop."""

import re

from .catalogue import check, require
from .factor_03_config import variables
from .kit import Kit
from .reading import (
    MANIFESTS,
    Pod,
    at,
    counts,
    environment,
    image,
    lines,
    manifests,
    pods,
    services,
)

GRACE_PERIOD = re.compile(r"terminationGracePeriodSeconds\W+(?:value\W+)?(\d+)")
ASKS = re.compile(r"\binter\s+(\d+)(ms|s)?\b.*\bfall\s+(\d+)")  # of HAProxy
NONE = (0, "0", "0%")
PATIENT_SECONDS = 10  # of a liveness probe, which ends the work in hand too


@check("IX-8", 61, 84, 99, needs=("web", "deploy/k8s"), fast=True)
def time_to_stop(kit: Kit) -> str:
    """preStop, drain and grace fit into the grace period, and replicas are replaced without gap."""
    told = [("Dockerfile", rest) for word, rest in image(kit) if word == "STOPSIGNAL"]
    told += [(where, one["stop_signal"]) for where, _, one in services(kit) if "stop_signal" in one]
    for where, number in told:
        require(
            number in {"SIGTERM", "15"}, f"{where}: stopped by {number}, which it does not know"
        )
    drain, grace = _longest(kit, "DRAIN_SECONDS"), _longest(kit, "GRACE_SECONDS")
    patched = [
        float(one) for _, line in lines(kit, *MANIFESTS) for one in GRACE_PERIOD.findall(line)
    ]
    said = []
    for pod in pods(kit, "Deployment", "StatefulSet"):
        has = min([float(pod.spec.get("terminationGracePeriodSeconds", 30)), *patched])
        served = bool(pod.container.get("ports"))
        live = pod.container.get("livenessProbe", {})
        require(live, f"{pod.where}: nobody asks whether it lives")
        late = live.get("periodSeconds", 10) * live.get("failureThreshold", 3)
        patient = late >= PATIENT_SECONDS and live.get("failureThreshold", 3) > 1
        require(patient, f"{pod.where}: killed for one late answer, or within {late} s")
        hook = pod.container.get("lifecycle", {}).get("preStop", {})
        slept = re.findall(r"sleep\D+(\d+)", str(hook)) or [0]
        needed = float(slept[0]) + (drain if served else 0) + grace
        require(needed < has, f"{pod.where}: stopping takes {needed:g} s, it has {has:g}")
        if served:
            require(
                float(slept[0]) > 0, f"{pod.where}: stops before the balancers know: no preStop"
            )
            _gapless(pod, min(counts(kit, pod)))
            said.append(f"{pod.process}: {slept[0]} + {drain:g} + {grace:g} < {has:g} s")
    for path, one in manifests(kit):
        if one["kind"] == "PodDisruptionBudget":
            spec = one["spec"]
            never = spec.get("maxUnavailable", 1) in NONE or spec.get("minAvailable") == "100%"
            require(not never, f"{at(kit, path)}: no pod may ever be moved: {spec}")
    for where, line in lines(kit, "*.md", "*.cfg", "*.conf"):
        for number, unit, times in ASKS.findall(line):
            late = float(number) * int(times) / (1 if unit == "s" else 1000)
            require(late <= drain, f"{where}: knows after {late:g} s, the drain takes {drain:g}")
    require(said, "no Deployment listens")
    return "; ".join(said)


def _gapless(pod: Pod, replicas: int) -> None:
    spec = pod.document["spec"]
    strategy = spec.get("strategy", {})
    rolling = strategy.get("rollingUpdate", {})
    gap = strategy.get("type") == "Recreate" or rolling.get("maxUnavailable") not in NONE
    require(not gap and rolling.get("maxSurge") not in NONE, f"{pod.where}: {strategy}")
    require(replicas > 1, f"{pod.where}: one replica, none while it is replaced")
    hows = ("httpGet", "exec", "tcpSocket", "grpc")
    live, ready = (
        {how: pod.container.get(f"{kind}Probe", {}).get(how) for how in hows}
        for kind in ("liveness", "readiness")
    )
    apart = any(live.values()) and any(ready.values()) and live != ready
    require(apart, f"{pod.where}: life is asked by {live}, readiness by {ready}")


def _longest(kit: Kit, name: str) -> float:
    """The highest value that is set below deploy/, else the source's default, else none."""
    values = [float(value) for _, one, value in environment(kit) if one == name]
    default = variables(kit).get(name, ("", 0))[1]
    return max(values, default=float(default) if isinstance(default, int | float) else 0)
