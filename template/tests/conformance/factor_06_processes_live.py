"""VI. Processes share nothing: whatever a client may see of them lies in a backing service."""

import uuid
from collections.abc import Sequence
from itertools import zip_longest

from .catalogue import check, require
from .factor_05_build_live import delivered, starts
from .kit import Kit
from .platform import Client, until

TIMES = 8


def same(one: Sequence[str], other: Sequence[str]) -> None:
    """Two transcripts are the same, line for line."""
    for number, (expected, seen) in enumerate(zip_longest(one, other), 1):
        require(expected == seen, f"step {number}: {seen!s:.300}, and {expected!s:.300} before")


@check("VI-1", 2, 4, 6, 12, 44, 45, 46, 78, 105, 114, 121, fast=True)
async def replicas(kit: Kit) -> str:
    """A client cannot tell three replicas, two of them the next release's, from one: the same
    story reads the same."""
    told = await kit.told()
    require(told.transcript("one"), "the story tells nothing: see tests/conformance/story.py")
    same(told.transcript("one"), told.transcript("three"))
    return f"{len(told.transcript('one'))} answers, the same from 1 replica and from 3"


@check("VI-2", 2, 13, 45, 62, fast=True)
async def deaths(kit: Kit) -> str:
    """A client does not notice that processes are killed between its steps."""
    told = await kit.told()
    same(told.transcript("one"), told.transcript("killed"))
    kills = len(told.tellings["killed"].killed)
    require(kills, "the story has no step at which a process could be killed")
    return f"{kills} processes killed between steps, {len(told.transcript('one'))} answers the same"


@check("VI-6", 46, 105, fast=True)
async def nothing_on_disk(kit: Kit) -> str:
    """No process keeps anything on a disk or in shared memory, where no replica has it."""
    told = await kit.told()
    require(not told.deploy.writes, "; ".join(told.deploy.writes[:3]))
    require(not told.left, f"for the next request, or for another process: {told.left[:3]}")
    return f"{len(told.deploy.processes)} processes told the story, and tried to write nothing"


@check("VI-3", 46, 105, 114, needs=("web", "worker", "story.enqueue"))
async def no_stale_answer(kit: Kit) -> str:
    """What a worker has written every replica says from then on, whatever it said before."""
    done = kit.offered("done")
    async with kit.whole(but="worker", webs=2) as deploy:
        views = [Client(deploy) for _ in range(2)]
        for view, web in zip(views, deploy.of("web"), strict=False):
            view.balancer.fixed = web
        about = await kit.offered("enqueue")(views[0], 1)
        (worker,) = await deploy.up("worker")
        looks = 0

        async def worked() -> bool:
            nonlocal looks
            looks += 1
            for view in views:
                await done(view, about)  # and may keep what it was answered
            return worker.said("job.done") is not None

        await until(worked, "a job is done")
        require(looks > 1, "the job was done, and there was no worker")
        for view in views:
            require(await done(view, about), "a job is done, and a replica says that it is not")
    return f"{looks} looks at {len(views)} replicas until a job was done, then the same from both"


@check("VI-4", 44, 45, needs=("web", "worker", "story.repeat"))
async def counts_once(kit: Kit) -> str:
    """A request that must count once does, though several replicas get it at the same moment."""
    async with kit.whole(but="worker", webs=2) as deploy:
        client = Client(deploy)
        client.headers["X-Request-ID"] = own = f"request-{uuid.uuid4().hex}"  # the clock asks too
        deploy.slow(0.05)  # each replica looks before another one has written
        about = await kit.offered("repeat")(client, TIMES)
        deploy.slow(0)
        about += await kit.offered("enqueue")(client, 1)
        (worker,) = await deploy.up("worker")
        await until(lambda: kit.offered("done")(client, about), "the jobs are done")
        await worker.stop()
        jobs = [one for one in worker.events if one["event"] == "job.done" and own in one.values()]
        require(len(jobs) == len(about), f"{len(about)} jobs asked for, {len(jobs)} done")
    return f"the same {TIMES} times at once at {len(deploy.of('web'))} replicas: one job"


@check("VI-9", 20, 44, 46, 105, needs=("bin/deploy", "web"))
async def engine_keeps_nothing(kit: Kit) -> str:
    """What a deploy starts on an engine can change nothing of its image, and shares no volume."""
    made = dict(starts(await kit.once(delivered)))
    require(made, "no deploy says what is started")
    for name, body in made.items():
        require(body.get("read_only") is True, f"{name}: may change its image")
        kept = [one for one in body.get("volumes", []) if "tmpfs" not in str(one)]
        require(not kept, f"{name}: {kept} outlives it")
    return f"{', '.join(made)}: read-only, without a volume"
