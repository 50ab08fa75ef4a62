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
    require(lines, "no process has logged anything")
    if told.version is not None:
        missing = [one for one in identity(told.deploy.environment) if one not in told.version]
        require(not missing, f"/version says {told.version}, and not {missing}")
    return f"commit and release on all of {lines} lines" + (
        ", and in /version" * bool(told.version)
    )


def identity(environment: dict[str, str]) -> set[str]:
    """The commit and the release of a process."""
    return {environment["REVISION"], environment["RELEASE_ID"]}
