"""VI Processes: no request is bound to a replica."""

import re

from .catalogue import check
from .kit import Kit
from .reading import free_of

STICKY = re.compile(
    r"sessionAffinity(?![\"']?\s*:\s*[\"']?None\b)|sessionPersistence|consistentHash"
    r"|\bip_hash\b|\bbalance\s+source\b|stick-table|\bcookie\s+\w+\s+insert\b|stickiness\s*\{"
    r"|(affinity|sticky|stickiness)[\w./-]*[\"']?\s*[:=]\s*[\"']?(cookie|true|enabled|1|ClientIP|\{)"
    r"|session-cookie-|affinity-(mode|cookie)|(lb|app)_cookie|sticky\.cookie"
)


@check("VI-5", 2, 47, 89, needs=("deploy/k8s",), fast=True)
def no_stickiness(kit: Kit) -> str:
    """No manifest, patch or proxy ties a client to one replica."""
    files = ("deploy/*", "*.yaml", "*.yml", "*.tf", "*.conf", "*.cfg")
    return f"{free_of(kit, STICKY, *files)} lines, no affinity"
