"""X. Dev/prod parity: a process works as it does under the name of a release."""

from .catalogue import check, require
from .factor_06_processes_live import same
from .factor_08_concurrency_live import waited
from .factor_09_disposability_live import troubled
from .kit import Kit


@check("X-7", 5, 65, 66, needs=("web", "worker", "story.enqueue"))
async def named_or_not(kit: Kit) -> str:
    """A process works the same whether a release named it, as in production, or nobody did."""
    jobs, pages = await kit.once(waited)
    require(len({*pages}) == 1, "a process that no release named can be asked for something else")
    plain = await kit.once(troubled)  # under no release's name
    same(plain.told, (await kit.told()).transcript("one"))
    require(not plain.deploy.writes, f"in the place of a service: {plain.deploy.writes[:2]}")
    return f"{jobs} jobs, asked for by a process with a release's id and by one without"
