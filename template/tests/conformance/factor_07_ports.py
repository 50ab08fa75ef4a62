"""VII Port binding: the service brings its own server, and everybody names the same port."""

import ast
import re
from typing import Any

from .catalogue import check, require
from .kit import Kit
from .reading import (
    COMPOSE,
    Pod,
    at,
    environment,
    free_of,
    image,
    imported,
    manifests,
    nodes,
    pods,
    source,
    strings,
    template,
)

DEVELOPMENT = re.compile(
    r"--reload\b|\bfastapi\s+dev\b|\bflask\b.*\brun\b|\brunserver\b|\w*_RELOAD\b|\bFLASK_(DEBUG|ENV)\b"
    r"|\bPYTHONDEVMODE\b|\bhttp\.server\b|--debug\b|\bwatch(files|medo)\b|python[\d.]*\s+-X\s*dev"
)
BESIDE = re.compile(r"(?i)\b(nginx|apache2?|httpd|haproxy|caddy|lighttpd|uwsgi|traefik|envoy)\b")
# What a proxy is to read, or has read, in the place of this process.
HANDS = re.compile(
    r"(?i)x-(accel-\w+|sendfile|reproxy-url|file|[\w-]*(body|upload|temp)[\w-]*file)"
)
SIMPLE = re.compile(r"wsgiref|http\.server|socketserver|werkzeug\.serving|.*\.make_server$")


@check("VII-4", 103, needs=("PORT", "deploy/k8s"), fast=True)
def ports_agree(kit: Kit) -> str:
    """PORT, containerPort, EXPOSE, probes, Service and policies mean the same port."""
    exposed = {one for word, rest in image(kit) if word == "EXPOSE" for one in rest.split()}
    listening = [pod for pod in pods(kit) if pod.container.get("ports")]
    require(listening, "no container has a port")
    given = {name: value for _, name, value in environment(kit)}
    for pod in listening:
        own = {pair["name"]: str(pair.get("value")) for pair in pod.container.get("env", [])}
        port = own.get("PORT", given.get("PORT", kit.example["PORT"]))
        ports = {str(one["containerPort"]) for one in pod.container["ports"]}
        of_host = [one for one in pod.container["ports"] if "hostPort" in one]
        host = of_host or pod.spec.get("hostNetwork")
        require(not host, f"{pod.where}: takes a port of its machine, where one replica has room")
        require(ports == {port}, f"{pod.where}: PORT is {port}, containerPort {sorted(ports)}")
        require(exposed <= {port, f"{port}/tcp"}, f"Dockerfile: EXPOSE {exposed}, PORT is {port}")
        names = ports | {one.get("name", "") for one in pod.container["ports"]}
        asked = list(_asked(kit, pod))
        require(
            any("Service" in where for where, _ in asked), f"{pod.where}: no Service leads here"
        )
        for where, wanted in asked:
            require(wanted in names, f"{where}: port {wanted}, not {port}")
    return f"{len(listening)} containers on PORT {port}"


def _asked(kit: Kit, pod: Pod) -> list[tuple[str, str]]:
    """The ports that probes, Services and policies expect of this pod."""
    found = []
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        for how in pod.container.get(kind, {}).values():
            if isinstance(how, dict) and "port" in how:
                found.append((f"{pod.where}, {kind}", str(how["port"])))
    labels: dict[str, Any] = template(pod.document)["metadata"].get("labels", {})
    for path, made in manifests(kit):
        spec, where = made.get("spec", {}), f"{at(kit, path)}, {made['kind']}"
        if made["kind"] == "Service" and spec["selector"].items() <= labels.items():
            found += [(where, str(one.get("targetPort", one["port"]))) for one in spec["ports"]]
        meant = spec.get("podSelector", {}).get("matchLabels", {}).items() <= labels.items()
        if made["kind"] == "NetworkPolicy" and meant:
            rules = [one for rule in spec.get("ingress", []) for one in rule.get("ports", [])]
            found += [(where, str(one["port"])) for one in rules]
    return found


@check("VII-5", 49, 79, fast=True)
def production_server(kit: Kit) -> str:
    """Each process is its own production server: none reloads, debugs or hides behind another."""
    places = ("Procfile", "Dockerfile", "app.json", *COMPOSE)
    read = free_of(kit, DEVELOPMENT, *places, "deploy/*", ".env.example")
    free_of(kit, BESIDE, *places, "deploy/*.service")
    for pod in pods(kit):
        for one in pod.spec["containers"]:
            require(
                not BESIDE.search(one.get("image", "")), f"{pod.where}: {one['image']} beside it"
            )
    for path, node, text in strings(source(kit)):
        require(not HANDS.fullmatch(text), f"{at(kit, path, node)}: {text} has a proxy answer")
    for path, node in nodes(source(kit)):
        if isinstance(node, ast.keyword) and node.arg in {"reload", "debug", "use_reloader"}:
            on = getattr(node.value, "value", True) is True
            require(not on, f"{at(kit, path, node)}: {node.arg}=True")
        if isinstance(node, ast.keyword) and node.arg == "forwarded_allow_ips":
            everybody = getattr(node.value, "value", "") == "*"
            require(not everybody, f"{at(kit, path, node)}: any client says where it comes from")
        for name in imported(node):
            require(not SIMPLE.match(name), f"{at(kit, path, node)}: {name}")
    return f"{len(kit.procfile)} commands, {read} lines of what starts them"
