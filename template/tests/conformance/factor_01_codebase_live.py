"""I. Codebase: what runs says which commit it is."""

import json

from .catalogue import check, require
from .kit import Kit


@check("I-1", 19, 81, fast=True)
async def commit(kit: Kit) -> str:
    """Each log line, and /version, names the commit and the release that run."""
    told = await kit.told()
    lines = 0
    for process in told.deploy.processes:
        own = identity(process.environment)
        for event in process.events:
            names = {str(value) for value in event.values()}
            require(own <= names, f"{process.type}: {json.dumps(event)[:300]}")
            lines += 1
        if (said := told.versions.get(process.pid)) is not None:
            missing = [one for one in own if one not in said]
            require(not missing, f"/version says {said}, and not {missing}")
    require(lines, "no process has logged anything")
    here = f", and in /version of {len(told.versions)} processes" * bool(told.versions)
    return f"commit and release on all of {lines} lines{here}"


def identity(environment: dict[str, str]) -> set[str]:
    """The commit and the release of a process."""
    return {environment["REVISION"], environment["RELEASE_ID"]}
