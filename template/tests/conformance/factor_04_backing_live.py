"""IV. Backing services: attached by URL, late, away, hung or swapped, without a restart."""

import asyncio
import time

from .catalogue import check, require
from .factor_06_processes_live import same
from .kit import CONNECTED, SOON, Kit, own_sockets, peers, port_of
from .platform import Client, Deploy, Process, until

MARGIN_SECONDS = 5  # of a machine that is busy
OUTAGE_SECONDS = 35  # longer than most clients wait for a connection before they give up
CROWD = 40  # requests at once, of each kind: PostgreSQL lets in 100 connections of all processes
BACK_SECONDS = 20  # less than who tries again at ever longer intervals sleeps after that


@check("IV-1", 32, 33, 34, 125)
async def swapped(kit: Kit) -> str:
    """Other servers, which want TLS, are attached by their URLs alone, and nothing of the former
    ones shows."""
    told = await kit.told()
    before = kit.tree()
    async with kit.deploy(variables=SOON, encrypted=True) as deploy:
        await deploy.up(*kit.serving)
        client = await kit.tell(Client(deploy, disturbing=True, all_at_once=True))
        same(told.transcript("one"), client.transcript)
        await deploy.used()
        for pipes in (told.deploy.pipes, deploy.pipes):
            for name, at in pipes.items():
                require(at.connections, f"nobody connected to where {name} says")
                require(not at.bare, f"{name} asks for TLS, and is spoken to without")
        for process in deploy.alive:
            strange = peers(process.pid) - deploy.named
            require(not strange, f"{process.type} talks to port {strange}, which no variable names")
    require(kit.tree() == before, "files of the service changed meanwhile")
    used = ", ".join(f"{name}{' over TLS' * bool(at.tls)}" for name, at in deploy.pipes.items())
    sets = f"the same story on two sets of servers, {len(client.killed)} restarts of everything"
    return f"{used or 'none to attach'}: {sets}"


@check("IV-2", 13, 115, 125, needs=("://",))
async def outage(kit: Kit) -> str:
    """In an outage a process lives, stays in service, answers 503 where it must, and recovers."""
    enqueue = kit.offered("enqueue") if "worker" in kit.procfile else None
    async with kit.whole(but="worker" if enqueue else "") as deploy:
        if enqueue:
            client = Client(deploy)
            about = await enqueue(client, 4)
            deploy.slow(0.2)
            await (await deploy.start("worker", **SOON)).begins(1)  # it is busy when they go
        started = deploy.alive
        for process in started:
            await process.speaks()
        await deploy.cut()
        deploy.slow(0)
        refused = 0
        for web in deploy.of("web"):
            refused += await unavailable(kit, web, "in an outage")
        over = time.monotonic() + OUTAGE_SECONDS
        while time.monotonic() < over:
            gone = [f"{one.type}: {one.tail()}" for one in started if not one.alive]
            require(not gone, f"ended in an outage: {gone}")
            for web in deploy.of("web"):
                # All replicas would leave the balancer at once, those that need nothing included.
                for probe in ("/livez", "/readyz"):
                    code = (await web.get(probe)).status_code
                    require(code == 200, f"{probe} in an outage: {code}")
            await asyncio.sleep(0.5)
        await deploy.mend()
        await well_again(kit, deploy, started)
        if enqueue:
            await until(lambda: kit.offered("done")(client, about), "the jobs it had are done")
    return f"{len(started)} processes lived, {refused} requests got 503, all well afterwards"


async def unavailable(kit: Kit, web: Process, when: str) -> int:
    """Every request that needs a backing service is answered with 503; how many there are."""
    answers = await kit.touch(web)
    for path, answer in answers.items():
        require(answer.status_code == 503, f"{path} {when}: {answer.status_code}")
        require("retry-after" in answer.headers, f"{path} {when}: no Retry-After")
    return len(answers)


async def well_again(kit: Kit, deploy: Deploy, started: list[Process]) -> None:
    """The same processes answer, and do a job."""
    for web in deploy.of("web"):

        async def back(web: Process = web) -> bool:
            answers = await kit.touch(web)
            return all(answer.status_code < 500 for answer in answers.values())

        await until(back, "its requests are answered again", BACK_SECONDS)
    if kit.offered("enqueue") and "worker" in kit.procfile:
        client = Client(deploy)
        about = await kit.offered("enqueue")(client, 2)
        done = kit.offered("done")
        await until(lambda: done(client, about), "a job is done again", BACK_SECONDS)
    gone = [f"{one.type}: {one.tail()}" for one in started if not one.alive]
    require(not gone, f"ended meanwhile: {gone}")


@check("IV-3", 13, 115, needs=("://",), fast=True, leaves=True)
async def late(kit: Kit) -> str:
    """A process starts before its services, is not ready until it has reached them, then is."""
    async with kit.left() as deploy:
        await deploy.cut()
        started = [await deploy.start(type) for type in kit.serving]
        for process in started:
            await process.speaks()
        for web in deploy.of("web"):
            live = await web.asked("/livez")
            ready = await web.get("/readyz")
            require(live.status_code == 200, f"/livez without services: {live.status_code}")
            require(ready.status_code == 503, f"/readyz without services: {ready.status_code}")
        await deploy.mend()
        for web in deploy.of("web"):
            await web.ready()
        await well_again(kit, deploy, started)
    return f"{len(started)} processes waited for their services, then worked"


@check("IV-4", 61, 125, needs=("://",))
async def hung(kit: Kit) -> str:
    """A service that accepts and never answers holds no request for longer than its deadline, and
    gets no connection for each of them."""
    async with kit.whole() as deploy:
        started = deploy.alive
        for process in started:
            await process.speaks()
        deploy.hold()
        said = "no process answers requests"
        for web in deploy.of("web"):
            budget = float(deploy.environment.get("REQUEST_TIMEOUT_SECONDS", 10)) + MARGIN_SECONDS
            began = time.monotonic()
            asking = asyncio.create_task(unavailable(kit, web, "with a hung service"))
            crowd = asyncio.gather(*(kit.touch(web) for _ in range(CROWD)), return_exceptions=True)
            live = await web.get("/livez")
            alive = time.monotonic() - began
            require(live.status_code == 200, f"/livez beside a hung service: {live.status_code}")
            require(alive < MARGIN_SECONDS, f"/livez beside a hung service: {alive:.1f} s")
            most = 0
            while not asking.done():
                there = own_sockets(web.pid, CONNECTED)
                most = max(most, sum(port_of(far) in deploy.named for _, far in there))
                await asyncio.sleep(0.2)
            await asking
            took = time.monotonic() - began
            require(took < budget, f"a hung service held a request for {took:.1f} s")
            require(most < CROWD, f"{CROWD} requests at once took {most} connections")
            await crowd
            said = f"503 after {took:.1f} s, /livez after {alive:.2f} s meanwhile"
        deploy.flow()
        await well_again(kit, deploy, started)
    return f"{said}; all well afterwards"
