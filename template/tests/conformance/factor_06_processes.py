"""VI Processes: no request is bound to a replica, and no replica keeps anything."""

import re

from .catalogue import check, require
from .kit import Kit
from .reading import free_of, pods

STICKY = re.compile(
    r"sessionAffinity(?![\"']?\s*:\s*[\"']?None\b)|sessionPersistence|consistentHash"
    r"|\bip_hash\b|\bbalance\s+source\b|stick-table|\bcookie\s+\w+\s+insert\b|stickiness\s*\{"
    r"|(affinity|sticky|stickiness)[\w./-]*[\"']?\s*[:=]\s*[\"']?(cookie|true|enabled|1|ClientIP|\{)"
    r"|session-cookie-|affinity-(mode|cookie)|(lb|app)_cookie|sticky\.cookie"
)
GONE_WITH_IT = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "projected", "secret"),
}


@check("VI-5", 2, 47, 89, needs=("deploy/k8s",), fast=True)
def no_stickiness(kit: Kit) -> str:
    """No manifest, patch or proxy ties a client to one replica."""
    files = ("deploy/*", "*.yaml", "*.yml", "*.tf", "*.conf", "*.cfg")
    return f"{free_of(kit, STICKY, *files)} lines, no affinity"


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
