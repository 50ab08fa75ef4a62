"""IX. Disposability: quick to start, and stopped at any moment without a loss."""

import asyncio
import contextlib
import signal
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from httpx2 import TransportError

from .catalogue import check, require
from .factor_04_backing_live import well_again
from .factor_05_build_live import delivered, starts
from .kit import SOON, Kit
from .platform import Client, Deploy, Event, Process, until
from .reading import environment

READY_SECONDS = 5
READY_CPU_SECONDS = 3
OPEN = ("/livez", "/readyz", "/version", "/metrics", "/openapi.json")  # to whoever asks
SLOW = 0.4  # seconds until a backing service answers a worker that is to be killed
BRISK = 0.1  # until it has begun a job
MOMENTS = (0.5, 1.5, 2.5, 3.5)  # of its job, in answers: it is acknowledged by one of them
EARLY = 0.15  # CPU seconds in which the interpreter itself starts
STOPPED = (0, -signal.SIGTERM)
HALFWAY = (2, 4)  # answers of backing services to a job's requests, until another request begins
# What is held by the kit is not to be given up, however busy the machine.
PATIENT = {"DATABASE_TIMEOUT_SECONDS": "20", "REQUEST_TIMEOUT_SECONDS": "30"}
IN_FLIGHT_SECONDS = 3  # that a request goes on after SIGTERM
END_SECONDS = 10  # until a process has ended that has answered everything
STOP_SECONDS = 17  # until a process has ended whose grace is 2 s


@check("IX-1", 56, 57, needs=("web",), fast=True)
async def start(kit: Kit) -> str:
    """A web process is ready within 5 s of its own, and 3 s of CPU."""
    async with kit.deploy() as deploy:
        began = time.monotonic()
        web = await deploy.start("web")
        await web.ready()
        wall = time.monotonic() - began
        ran, waited = web.own_seconds()
        own = wall - waited  # a busy machine is no fault of the service
        require(own < READY_SECONDS, f"ready after {own:.1f} s, waiting for a core not counted")
        require(ran < READY_CPU_SECONDS, f"ready after {ran:.1f} s of CPU")
    return f"ready after {own:.1f} s, {ran:.1f} s of CPU"


@check("IX-2", 58, 59, 60, 116, needs=("web",), fast=True)
async def drain(kit: Kit) -> str:
    """On SIGTERM requests in flight are answered, new ones meet a closed door, the process ends."""
    write, written = kit.offered("write"), kit.offered("written")
    async with kit.deploy(variables=PATIENT) as deploy:
        (web,) = await deploy.up("web")
        client = Client(deploy)
        asking = []
        half = await asyncio.open_connection("127.0.0.1", web.port)
        half[1].write(b"GET /version HTTP/1.1\r\nHost: service\r\n")
        await half[1].drain()
        idle = await asyncio.open_connection("127.0.0.1", web.port)  # it stays open, unused
        idle[1].write(b"GET /version HTTP/1.1\r\nHost: service\r\n\r\n")
        await idle[0].readuntil(b"\r\n\r\n")
        if write and kit.urls:
            await write(client, "before")
            deploy.hold()
            client.balancer.fixed = web
            asking = [asyncio.create_task(write(client, f"in flight {i}")) for i in range(3)]
            await deploy.held()
        web.signal(signal.SIGTERM)
        half[1].write(b"\r\n")
        answer = (await asyncio.wait_for(half[0].readuntil(b"\r\n\r\n"), 20)).decode()
        require(" 200 " in answer, f"a request half sent at SIGTERM: {answer[:100]!r}")
        half[1].close()
        await until(lambda: not web.listens(), "no new connection is accepted")
        if asking:
            given_up, _ = await asyncio.wait(asking, timeout=IN_FLIGHT_SECONDS)
            require(not given_up, "a request in flight was given up")
        deploy.flow()
        await asyncio.gather(*asking)
        code = await web.ended(END_SECONDS)
        require(code in STOPPED, f"it ended with {code}: {web.tail()}")
        idle[1].close()
        if asking:
            (other,) = await deploy.up("web")
            client.balancer.fixed = other
            names = await written(client)
            lost = {f"in flight {i}" for i in range(3)} - set(names)
            require(not lost, f"answered, and not there: {lost}")
    return f"{1 + len(asking)} requests in flight answered, then closed, exit {code}"


@check("IX-3", 10, 61, 76, 84, 88, 110, needs=("web",), leaves=True)
async def rolling(kit: Kit) -> str:
    """A rolling update behind a balancer that is a second late fails no request."""
    async with kit.left() as deploy:
        manifest = rollout(kit)

        async def another() -> Process:
            # Development does not drain; what counts is production's, the default.
            web = await deploy.start("web", DRAIN_SECONDS=None)
            await web.ready()
            return web

        asked = [("GET", "/version", {}), *kit.touching]
        old = await asyncio.gather(another(), another())
        endpoints = list(old)
        failed: list[str] = []
        answered = 0
        over = asyncio.Event()

        async def visitor(number: int) -> None:
            nonlocal answered
            while not over.is_set():
                number += 1
                await asyncio.sleep(PAUSE_SECONDS)
                web = endpoints[number % len(endpoints)]
                method, path, more = asked[number // 2 % len(asked)]
                try:
                    answer = await web.asks(method, path, **more)
                    answered += answer.status_code < 500
                    if answer.status_code >= 500:
                        failed.append(f"{answer.status_code} of {web.pid}, {path}")
                except Exception as error:
                    failed.append(f"{type(error).__name__} of {web.pid}")

        async def replace(web: Process) -> int:
            endpoints.append(await another())

            async def forget() -> None:
                await asyncio.sleep(STALE_SECONDS)  # what balancers need to notice
                endpoints.remove(web)

            forgetting = asyncio.create_task(forget())
            await asyncio.sleep(manifest["preStop"])
            web.signal(signal.SIGTERM)
            told = time.monotonic()
            what = "a process that was told to stop is ready no more"
            await until(lambda: leaves(kit, web, told), what, manifest["grace"])
            code = await web.ended(manifest["grace"])
            await forgetting
            return code

        visitors = [asyncio.create_task(visitor(number)) for number in range(2)]
        codes = await asyncio.gather(*(replace(web) for web in old))
        over.set()
        await asyncio.gather(*visitors)
        require(not failed, f"{len(failed)} of {answered + len(failed)} failed: {failed[:3]}")
        require(set(codes) <= set(STOPPED), f"exit codes {codes}")
        require(answered > 50, f"{answered} requests prove nothing")
    return f"{answered} requests while 2 replicas were replaced, 0 failed"


async def leaves(kit: Kit, web: Process, told: float) -> bool:
    """Whether it is no longer ready, ends the connections on which it still answers, and answers
    as before.

    Balancers that ask each second learn of it in no other way, unless it is gone before they ask.
    """
    asked = time.monotonic()
    try:
        answer = await web.get("/readyz")
        if answer.status_code == 200:
            return False
        late = await kit.touch(web)
    except TransportError:
        require(asked - told < 2 * STALE_SECONDS, "it was ready to its end")
        return True
    failed = [f"{path}: {one.status_code}" for path, one in late.items() if one.is_server_error]
    require(not failed, f"told to stop, and still asked: {failed}")
    ends = answer.http_version == "HTTP/1.0" or "close" in answer.headers.get("connection", "")
    require(ends, f"it stops with connections open: {dict(answer.headers)}")
    return True


STALE_SECONDS = 1.0
PAUSE_SECONDS = 0.05  # of a visitor: it is no load test


def rollout(kit: Kit) -> dict[str, float]:
    """What the platform waits before and after SIGTERM: the manifest's, or a plain platform's."""
    for documents in kit.documents("deploy/k8s/*.yaml").values():
        for one in documents:
            if one.get("kind") == "Deployment" and one["metadata"]["name"] == "web":
                pod = one["spec"]["template"]["spec"]
                (container,) = pod["containers"]
                stop = container.get("lifecycle", {}).get("preStop", {})
                pause = float(stop.get("sleep", {}).get("seconds", 0))
                return {"preStop": pause, "grace": pod.get("terminationGracePeriodSeconds", 30)}
    return {"preStop": 0.0, "grace": 30.0}


@check("IX-4", 13, 62, needs=("worker", "story.enqueue"))
async def crash(kit: Kit) -> str:
    """A worker that is killed in the middle of its jobs loses none: those in its place do them."""
    told = await kit.once(crashed)
    return f"{len(MOMENTS)} kills, {told.interrupted} jobs in hand, all {told.jobs} done"


@dataclass(frozen=True)
class Crashed:
    """Jobs that are done though their workers were killed."""

    jobs: int
    interrupted: int  # of them, in the hand of a worker as it was killed
    request: str  # the id of the one that asked for them
    again: list[Event]  # what workers said as they began its interrupted ones again


async def crashed(kit: Kit) -> Crashed:
    async with kit.whole(but="worker") as deploy:
        client = Client(deploy)
        client.headers["X-Request-ID"] = asked = f"request-{uuid.uuid4().hex}"
        about = await kit.offered("enqueue")(client, 12)
        interrupted: set[str] = set()
        own: set[str] = set()  # of this request; a deploy that others used may have more
        again: list[Event] = []
        place = Path(tempfile.mkdtemp(dir=deploy.folder))  # it outlives a container, as an emptyDir
        kept = [one for one in environment(kit) if one[2].startswith("/tmp/")]
        given = {name: str(place / Path(value).name) for _, name, value in kept}
        given |= {**SOON, "TMPDIR": str(place)}
        for answers in MOMENTS:
            deploy.slow(BRISK)
            victim = await deploy.start("worker", **given)
            await victim.begins(1)
            deploy.slow(SLOW)
            await asyncio.sleep(answers * SLOW)
            await victim.kill()
            again += begun(victim, interrupted & own)
            own |= {one["job_id"] for one in victim.events if asked in one.values()}
            interrupted |= {*victim.jobs("job.started")} - {*victim.jobs("job.done")}
        require(interrupted, "every job was done before its worker was killed")
        deploy.slow(0)
        other = await deploy.start("worker", **given)
        done = kit.offered("done")
        await until(lambda: done(client, about), "every job of a killed worker is done", 60)
        await other.stop()
        again += begun(other, interrupted & own)
    return Crashed(len(about), len(interrupted), asked, again)


def begun(worker: Process, jobs: set[str]) -> list[Event]:
    """What it said as it began these."""
    return [one for one in worker.events if one["event"] == "job.started" and one["job_id"] in jobs]


@check("IX-9", 13, 62, needs=("web", "story.write"))
async def crash_only(kit: Kit) -> str:
    """A web process may be killed at any moment: what was answered is there, once, and a request
    that was cut short and is repeated has its whole effect."""
    write, written, repeat = map(kit.offered, ("write", "written", "repeat"))
    about: list[str] = []
    async with kit.whole() as deploy:
        client, other = Client(deploy), Client(deploy, insisting=True)
        answered = {f"answered {uuid.uuid4()}": answers for answers in HALFWAY}
        deploy.slow(0.1)  # what is answered before it is kept has time to get lost
        for name, answers in answered.items():
            client.balancer.fixed = other.balancer.fixed = victim = deploy.of("web")[0]
            cut = asyncio.create_task(repeat(other, 1)) if repeat else None
            await deploy.answering(answers if cut else 0)
            beside = asyncio.create_task(write(client, f"beside {name}"))
            await write(client, name)
            await victim.kill()
            with contextlib.suppress(TransportError):
                await beside
            await deploy.up("web")
            other.balancer.fixed = None
            about += await cut if cut else []
        deploy.slow(0)
        client.balancer.fixed = None
        done = kit.offered("done")
        if about and done and "worker" in kit.procfile:
            await until(lambda: done(client, about), "what was cut short, and repeated, is done")
        found = await written(client)
        lost = [name for name in answered if name not in found]
        require(not lost, f"answered, and not there: {lost}")
        twice = {name for name in found if found.count(name) > 1 and name.endswith((*answered,))}
        require(not twice, f"there more than once: {twice}")
    held = f"{len(answered)} processes killed right after an answer: each answer holds, once"
    return f"{held}; {len(about)} requests cut short and repeated had their effect"


@check("IX-5", 58, 59, 60, needs=("worker",))
async def worker_stops(kit: Kit) -> str:
    """A worker that is told to stop ends within its grace though jobs wait, and none is lost; one
    that starts leaves to others what they have in hand."""
    enqueue, done = kit.offered("enqueue"), kit.offered("done")
    async with kit.whole(but="worker") as deploy:
        client = Client(deploy)
        about = await enqueue(client, 24) if enqueue else []
        deploy.slow(0.1)  # a job takes longer than the grace, so that some are given back
        worker = await deploy.start("worker", WORKER_CONCURRENCY="2", GRACE_SECONDS="0.2")
        await (worker.begins(3) if enqueue else worker.speaks())  # all its connections are made
        worker.signal(signal.SIGSTOP)  # while another starts: too short to count as dead
        beside = await deploy.start("worker")
        await (beside.begins(1) if enqueue else beside.speaks())
        taken = {*worker.jobs("job.started")} & {*beside.jobs("job.started")}
        require(not taken, f"a worker that starts takes what another has in hand: {taken}")
        worker.signal(signal.SIGCONT)
        began = time.monotonic()
        code = await worker.stop(10)
        took = time.monotonic() - began
        require(code in STOPPED, f"it ended with {code}: {worker.tail()}")
        finished = sum(one["event"] == "job.done" for one in worker.events)
        if enqueue:
            require(finished < len(about), "the worker did every job before it stopped")
        deploy.slow(0)
        if done:
            await until(lambda: done(client, about), "what a stopped worker left is done")
    return f"stopped {took:.1f} s after SIGTERM with {len(about) - finished} jobs left, exit {code}"


@dataclass(frozen=True)
class Trouble:
    """A deploy at DEBUG whose services went away, came back, and hung when it was stopped."""

    deploy: Deploy
    told: list[str]  # the story's transcript, with nobody between it and the process
    answers: list[str]
    credential: str  # that a client sent
    ends: list[int | BaseException]  # exit codes of the processes
    seconds: float  # from SIGTERM until the last of them had ended


async def troubled(kit: Kit) -> Trouble:
    variables = {"LOG_LEVEL": "DEBUG", "GRACE_SECONDS": "2"}
    deploy = await kit.stack.enter_async_context(kit.deploy(variables=variables, audited=True))
    started = await deploy.up(*kit.serving)
    client, credential = Client(deploy), uuid.uuid4().hex
    plain: list[str] = []
    if "web" in kit.procfile:
        client.balancer.forwarded = {}
        await kit.tell(client)
        plain = [*client.transcript]
        headers = {"Authorization": f"Bearer {credential}", "Cookie": f"session={credential}"}
        sent: dict[str, Any] = {"headers": headers, "json": {"password": credential}}
        sent["params"] = {"token": credential}
        (web,) = deploy.of("web")
        for path in ("/no-such-page", *{path for _, path, _ in kit.touching}):
            await web.asks("POST", path, **sent)
        client.transcript += [(await web.get(path)).text for path in OPEN]
    await asyncio.gather(*(one.speaks() for one in started))
    await deploy.cut()
    for web in deploy.of("web"):
        client.transcript += [one.text for one in (await kit.touch(web)).values()]
    await deploy.mend()
    await well_again(kit, deploy, started)
    deploy.hold()
    asking = [asyncio.create_task(kit.touch(web)) for web in deploy.of("web")]
    began = time.monotonic()
    stopping = (one.stop(STOP_SECONDS) for one in started)
    ends = await asyncio.gather(*stopping, return_exceptions=True)
    seconds = time.monotonic() - began
    for task in asking:
        with contextlib.suppress(Exception):
            await task
    return Trouble(deploy, plain, client.transcript, credential, ends, seconds)


@check("IX-6", 60, 116)
async def hung_stop(kit: Kit) -> str:
    """A process ends on SIGTERM though its backing services hang."""
    told = await kit.once(troubled)
    for end in told.ends:
        if isinstance(end, BaseException):
            raise end
    return f"{len(told.ends)} processes ended within {told.seconds:.1f} s, exit {set(told.ends)}"


@check("IX-7", 60, 116)
async def early_stop(kit: Kit) -> str:
    """A process that is told to stop while it starts, or twice, ends at once."""
    async with kit.deploy() as deploy:
        codes = [await stopped_early(await deploy.start(type)) for type in kit.serving]
        require(set(codes) <= {*STOPPED, 1}, f"exit codes {codes}")
    return f"{len(codes)} process types, exit {sorted(set(codes))}"


async def stopped_early(process: Process) -> int:
    """Tell it to stop, twice, as soon as the interpreter itself is up."""

    def begun() -> bool:
        return not process.alive or bool(process.lines) or process.own_seconds()[0] > EARLY

    await until(begun, f"{process.type} starts")
    require(process.alive, f"{process.type} ended by itself: {process.tail()}")
    for _ in range(2):
        process.signal(signal.SIGTERM)
    return await process.ended(10)


@check("IX-10", 62, needs=("bin/deploy", "web"))
async def comes_back(kit: Kit) -> str:
    """What runs on is started again when it has ended, by itself or with its machine."""
    made = dict(starts(await kit.once(delivered)))
    found = {name: body.get("restart", "no") for name, body in made.items() if name in kit.serving}
    require(found, "no deploy says what is started")
    gone = [name for name, when in found.items() if when == "no"]
    require(not gone, f"nobody starts {gone} again")
    return ", ".join(f"{name}: {when}" for name, when in found.items())
