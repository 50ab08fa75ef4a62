"""VIII. Concurrency: each process type does its own work, and more of them share it."""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress

from .catalogue import Broken, check, require
from .kit import Kit
from .platform import Client, Process, until

WATCH_SECONDS = 2
JOBS = 16  # at once
ALL = JOBS + 8  # the others one by one
WRITES = re.compile(  # in what a client says: to PostgreSQL, to Redis, to an object store
    rb"(?i)\b(?:insert\s+into|delete\s+from|update\s+[\w.\"]+\s+set)\b[^\0;]*"
    rb"|\r\n(?:set|setex|del|incr|expire|[lr]push|[shz]add|hset|xadd|publish|flushdb|flushall)\r\n"
    rb"|(?:PUT|POST|DELETE) /\S* HTTP"
)


@check("VIII-2", 54, 86, needs=("web", "worker", "story.enqueue"))
async def own_work(kit: Kit) -> str:
    """A web process takes requests and leaves the jobs to workers."""
    jobs, _ = await kit.once(waited)
    return f"{jobs} jobs waited {WATCH_SECONDS} s for a worker, then were done"


async def waited(kit: Kit) -> tuple[int, list[str]]:
    """How many jobs waited for a worker, asked for by a process that no release named and by one
    that a release did; and what each of the two says that it can be asked."""
    async with kit.whole(but="worker") as deploy:
        client, about = Client(deploy), []
        released = await deploy.start("web", RELEASE_ID=f"{kit.package}-1234567-abcdef")
        pages = []
        for client.balancer.fixed in (deploy.of("web")[0], released):
            await client.balancer.fixed.ready()
            pages.append((await client.balancer.fixed.get("/openapi.json")).text)
            about += await kit.offered("enqueue")(client, 1)
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            for one in about:
                done = await kit.offered("done")(client, [one])
                require(not done, "a job was done, and there was no worker")
            await asyncio.sleep(0.05)
        await deploy.up("worker")
        await until(lambda: kit.offered("done")(client, about), "a worker does the jobs")
    return len(about), pages


@check("VIII-6", 54, needs=("web", "://"), leaves=True)
async def unasked(kit: Kit) -> str:
    """A web process does what it is asked to: of its own accord it writes nothing, at no time."""
    written = await kit.once(idle)
    require(not written, f"nobody had asked it to: {written[:1]}")
    return f"2 web processes wrote nothing while nobody asked, for {WATCH_SECONDS} s"


async def idle(kit: Kit) -> list[bytes]:
    """What web processes write from their start on though nobody asks them to."""
    write = kit.offered("write")
    async with kit.left() as deploy:
        await deploy.up("web")
        if write:
            await write(Client(deploy), "before")  # there is something to be busy with
        deploy.seek(WRITES)
        await deploy.up("web")
        with suppress(Broken):
            await until(lambda: deploy.found, "a web process writes", WATCH_SECONDS)
        deploy.seek(None)
    return deploy.found


@check("VIII-3", 54, 86, needs=("worker", "story.enqueue"))
async def shared(kit: Kit) -> str:
    """Workers share the jobs: none is idle or takes more than it may, no job is done twice."""
    async with kit.whole(but="worker") as deploy:
        client = Client(deploy)
        about = await kit.offered("enqueue")(client, JOBS)
        deploy.slow(0.02)  # long enough for the other worker to come by
        workers = await asyncio.gather(
            *(deploy.start("worker", WORKER_CONCURRENCY="1") for _ in range(2))
        )
        await until(lambda: kit.offered("done")(client, about), f"{JOBS} jobs by two workers")
        deploy.slow(0)
        for number in range(JOBS + 1, ALL + 1):  # both are idle, and reach for it at once
            await kit.offered("enqueue")(client, 1)
            await finished(workers, number)
        await asyncio.gather(*(worker.stop() for worker in workers))
        each = [worker.jobs("job.done") for worker in workers]
        ids = [id for done in each for id in done]
        require(len(ids) == len(set(ids)), f"{len(ids)} jobs done, {len(set(ids))} asked for")
        most = max(in_hand(worker) for worker in workers)
        require(most == 1, f"a worker that may run one job at a time ran {most}")
        failed = [one for worker in workers for one in worker.events if one["level"] == "error"]
        require(not failed, f"a job fails where nothing is wrong: {failed[:1]}")
        require(all(each), f"one worker was idle: {[len(done) for done in each]} jobs")
        require(len(ids) >= ALL, f"{len(ids)} of {ALL} jobs are in the log")
    return f"{ALL} jobs: {' and '.join(str(len(done)) for done in each)}, each once"


async def finished(workers: Sequence[Process], number: int) -> None:
    """Wait until this is how many jobs these workers have done."""

    def done() -> bool:
        return sum(len(worker.jobs("job.done")) for worker in workers) >= number

    await until(done, f"{number} jobs by {len(workers)} workers")


def in_hand(worker: Process) -> int:
    """How many jobs a worker ran at once, at most."""
    steps = [{"job.started": 1, "job.done": -1}.get(one["event"], 0) for one in worker.events]
    return max(itertools.accumulate(steps), default=0)


@check("VIII-5", 52, 53, 54, fast=True)
async def foreground(kit: Kit) -> str:
    """A process stays in the foreground, alone and on any core: no daemon, child or PID file."""
    told = await kit.told()
    require(told.codes, "no process was alive at the end of the story")
    gone = [f"{one.type}: {one.tail()}" for one in told.gone]
    require(not gone, f"ended, and nobody had told it to: {gone}")
    parents = {pid: children for pid, children in told.children.items() if children}
    require(not parents, f"children: {parents}")
    ours = len(os.sched_getaffinity(0))
    bound = {pid: number for pid, number in told.cores.items() if number < ours}
    require(not bound, f"of {ours} cores, processes keep to {bound}: more of them share one")
    pids = [act for act in told.deploy.acts if ".pid" in act]
    require(not pids, "; ".join(pids[:3]))
    return f"{len(told.codes)} processes in the foreground, none with a child or a PID file"
