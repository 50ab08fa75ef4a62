"""I. Codebase: what runs says which commit it is."""

import json

from .catalogue import check, require
from .kit import Kit


@check("I-1", 19, 81, fast=True)
async def commit(kit: Kit) -> str:
    """Each log line, and /version, names the commit and the release that run."""
    told = await kit.told()
    revision = told.deploy.environment["REVISION"]
    release = told.deploy.environment["RELEASE_ID"]
    lines = 0
    for process in told.deploy.processes:
        for event in process.events:
            names = {str(value) for value in event.values()}
            require({revision, release} <= names, f"{process.type}: {json.dumps(event)[:300]}")
            lines += 1
    require(lines, "no process has logged anything")
    if told.version is not None:
        said = revision in told.version and release in told.version
        require(said, f"/version says {told.version}, not {revision} and {release}")
    return f"commit and release on all of {lines} lines" + (
        ", and in /version" * bool(told.version)
    )
