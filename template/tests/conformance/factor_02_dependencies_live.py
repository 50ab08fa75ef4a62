"""II. Dependencies: the service runs with its interpreter alone."""

from .catalogue import check, require
from .kit import Kit

STARTS = ("os.exec", "os.posix_spawn", "os.system", "subprocess.Popen")


@check("II-4", 22, fast=True)
async def tools(kit: Kit) -> str:
    """No process starts another program, with a PATH that holds nothing but the interpreter."""
    told = await kit.told()
    acts = [act for act in told.acts if act.startswith(STARTS)]
    # A library may look for a tool; that it was not there has harmed nobody.
    looked = {
        act.split()[1] for act in acts if "site-packages" in act and "/" not in act.split()[1]
    }
    started = [act for act in acts if act.split()[1] not in looked]
    require(not started, "; ".join(started[:3]))
    children = {pid: own for pid, own in told.children.items() if own}
    require(not children, f"processes have children: {children}")
    missed = f"; a library looked for {', '.join(looked)}" if looked else ""
    return f"{len(told.deploy.processes)} processes, none started a program{missed}"
