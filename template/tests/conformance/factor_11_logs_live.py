"""XI. Logs: a stream of JSON on stdout, unbuffered, with ids that stitch it together."""

import asyncio
import json
import re
import time
import uuid
from datetime import datetime

from .catalogue import check, require
from .factor_05_build_live import delivered, starts
from .factor_07_ports_live import second
from .factor_09_disposability_live import crashed, troubled
from .kit import MIGRATION, Kit
from .platform import SECONDS, Client, Deploy, Event, Process, until

KEYS = {"ts", "level", "event"}
TRACE = "Traceback"
ROUNDS, LATE_SECONDS = 5, 3  # lines, each awaited before the next; all of them
MANY = 60  # requests at once


def faults(process: Process) -> list[str]:
    """The lines that are no event, and whatever stands on stderr."""
    wrong = [f"{process.type} on stderr: {line}" for line in process.errors]
    for line in process.lines:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not event.keys() >= KEYS or not moment(event["ts"]):
            wrong.append(f"{process.type}: {line}")
    return wrong


def moment(text: object) -> bool:
    """Whether this says when, wherever it is read: a number, or a time with its zone."""
    try:
        return isinstance(text, int | float) or bool(datetime.fromisoformat(str(text)).tzinfo)
    except ValueError:
        return False


@check("XI-1", 67, 70, 117, fast=True)
async def events(kit: Kit) -> str:
    """Every line of every process is a JSON event, and stderr is empty, whatever happens."""
    told = await kit.told()
    async with kit.whole() as deploy:
        others = [one for one in deploy.processes if one.type != "web" or not one.alive]
        if "web" in kit.procfile:
            web = deploy.of("web")[0]
            await web.get("/no-such-page")
            await web.get("/no-such-page/%22,%22level%22:%22forged%0A%5C")
            await web.asks("POST", "/", content=b"{", headers={"Content-Type": "application/json"})
            _, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(b"\x00\x01 garbage\r\n\r\n")
            await writer.drain()
            writer.close()
        for type in kit.serving:
            await (await deploy.start(type, LOG_LEVEL="no such level")).ended()
        await deploy.cut()
        if "web" in kit.procfile:
            await kit.touch(web)
            await web.stop()
        if "release" in kit.procfile:
            failing = await deploy.start("release")
            require(await failing.ended(60) != 0, "release ended with 0 without a database")
        if "console" in kit.procfile:
            crashing = await deploy.start("console", stdin="1 / 0")
            require(await crashing.ended() != 0, "a crash ended with 0")
        await deploy.mend()
        processes = told.deploy.processes + [one for one in deploy.processes if one not in others]
    if "web" in kit.procfile:
        processes.append(await kit.once(second))
    # What a console prints is an answer to whoever asked, and no event, unless it crashes.
    processes = [one for one in processes if one.type != "console" or one.child.returncode]
    wrong = [fault for process in processes for fault in faults(process)]
    require(not wrong, f"{len(wrong)} lines: {wrong[0][:300] if wrong else ''}")
    lines = sum(len(process.lines) for process in processes)
    require(lines, "no process has logged anything")
    return f"{lines} lines of {len(processes)} processes, each a JSON event; stderr empty"


@check("XI-2", 71, 86, 117, needs=("web",), fast=True)
async def request_ids(kit: Kit) -> str:
    """A request's id is echoed, stands on its log lines and its jobs', and cannot be forged."""
    told = await kit.told()
    new = [id for client in told.tellings.values() for id in client.request_ids]
    require(all(new), "an answer to a request without an id has none")
    require(len(set(new)) == len(new), f"{len(new)} requests got {len(set(new))} ids")
    enqueue = kit.offered("enqueue")
    async with kit.whole() as deploy:
        web = deploy.of("web")[0]
        own = f"request-{uuid.uuid4().hex}"
        answer = await web.asks("GET", "/no-such-page", headers={"X-Request-ID": own})
        require(
            answer.headers.get("x-request-id") == own, f"sent {own}, got {dict(answer.headers)}"
        )
        await logged(web, own)
        forged = 'x", "level": "forged'
        answer = await web.asks("GET", "/no-such-page", headers={"X-Request-ID": forged})
        echoed = answer.headers.get("x-request-id", "")
        require(echoed and "forged" not in echoed, f"a forged id came back: {echoed}")
        require(not on_lines(web, "forged"), f"a forged id is logged: {on_lines(web, 'forged')}")
        for page in await web.pages():
            handed = own in (await web.get(page)).text
            require(not handed, f"{page} hands out the lines of other requests")
        await overlapping(kit, deploy, web)
        where = "web"
        if enqueue and "worker" in kit.procfile:
            client = Client(deploy)
            client.headers["X-Request-ID"] = job = f"request-{uuid.uuid4().hex}"
            about = await enqueue(client, 1)
            await until(lambda: kit.offered("done")(client, about), "the job of a request")
            worker = deploy.of("worker")[0]
            await until(lambda: job in ended(worker), f"job.done of the worker with {job}")
            silent = [one for one in within(worker, job) if "job_id" not in one]
            require(not silent, f"a line of the job without its request's id: {silent[:1]}")
            where = "web and worker"
    return f"echoed, on the lines of {where}; a forged one replaced, {len(new)} new ones unique"


@check("XI-8", 67, 71, 117, needs=("web", "release", "story.TOUCH", MIGRATION), fast=True)
async def unforeseen(kit: Kit) -> str:
    """A failure that nobody foresaw is a line of level error, with its trace and request's id."""
    told = await kit.told()
    ids = [one.headers.get("x-request-id") for one in told.unforeseen if one.status_code == 500]
    for id in ids:
        lines = [one for web in told.deploy.processes for one in web.events if id in one.values()]
        traced = [one for one in lines if one["level"] == "error" and TRACE in str(one)]
        require(traced, f"a request that failed with 500 has but the lines {lines}")
    asked = f"of {len(told.unforeseen)} requests before there was a schema"
    return f"{asked} {len(ids)} failed with 500, each with its trace"


def ended(worker: Process) -> list[object]:
    """Whatever stands on the lines by which jobs ended."""
    return [said for one in worker.events if one["event"] == "job.done" for said in one.values()]


def within(worker: Process, request: str) -> list[Event]:
    """The lines of a worker from the first to the last that are of this request."""
    events = worker.events
    own = [number for number, one in enumerate(events) if request in one.values()]
    return events[own[0] : own[-1]]


async def overlapping(kit: Kit, deploy: Deploy, web: Process) -> None:
    """Requests that overlap keep their ids, and of many at once each has its line."""
    slow, quick, *many = (f"request-{uuid.uuid4().hex}" for _ in range(MANY + 2))
    asking = []
    if kit.urls:
        deploy.hold()
        for method, path, more in kit.touching[:1]:
            headers = {**more.get("headers", {}), "X-Request-ID": slow}
            asking = [asyncio.create_task(web.asks(method, path, **{**more, "headers": headers}))]
            await deploy.held()
    asks = (web.asks("GET", "/no-such-page", headers={"X-Request-ID": id}) for id in (quick, *many))
    await asyncio.gather(*asks)
    deploy.flow()
    await asyncio.gather(*asking)
    for id in (*many, quick, *[slow] * len(asking)):
        await logged(web, id, 5)


async def logged(process: Process, id: str, seconds: float = SECONDS) -> None:
    await until(lambda: on_lines(process, id), f"a line of {process.type} with {id}", seconds)


def on_lines(process: Process, id: str) -> list[str]:
    return [line for line in process.lines if id in line]


@check("XI-3", 67, fast=True)
async def unbuffered(kit: Kit) -> str:
    """A line is out within a second of what it tells, though nobody asks Python for it."""
    type = "web" if "web" in kit.procfile else kit.serving[0]
    async with kit.whole(but="" if type == "web" else type) as deploy:
        (process, *_) = deploy.of(type) or await deploy.up(type)
        before = time.monotonic()
        if type == "web":
            for _ in range(ROUNDS):  # a full buffer may let one out, and so may a clock
                mark = f"request-{uuid.uuid4().hex}"
                await process.asks("GET", "/no-such-page", headers={"X-Request-ID": mark})
                await logged(process, mark, 5)
            took = time.monotonic() - before
            require(took < LATE_SECONDS, f"{ROUNDS} lines took {took:.1f} s")
        else:
            await until(lambda: process.lines, f"a line of {type}", 10)
        late = time.monotonic() - before
        require(process.alive, "it ended, and its end may have flushed the line")
    return f"{type}: {late:.2f} s after"


SECRET = re.compile(r"(URL|SECRET|KEY|TOKEN|PASSWORD|DSN)", re.IGNORECASE)


@check("XI-4", 70)
async def secrets(kit: Kit) -> str:
    """No secret stands in a log line or an answer, at DEBUG and in failure."""
    trouble = await kit.once(troubled)
    deploy, hidden = trouble.deploy, {"a client's credential": trouble.credential}
    for name, value in deploy.environment.items():
        if name in kit.urls and "://" in value and "@" not in value.partition("?")[0]:
            continue  # no password in it
        if SECRET.search(name) and len(value) > 8:
            secret = value.rpartition("@")[0].rpartition(":")[2] or value
            if secret not in ("guest", "postgres"):
                hidden[name] = secret
    for name, value in hidden.items():
        for process in deploy.processes:
            shown = on_lines(process, value)
            require(not shown, f"{name} in a line of {process.type}: {shown[:1]}")
        answers = [line for line in trouble.answers if value in line]
        require(not answers, f"{name} in an answer: {answers[:1]}")
    lines = sum(len(process.lines) for process in deploy.processes)
    return f"{len(hidden)} secrets, {lines} lines at DEBUG: not one"


@check("XI-5", 3, 20, 39, 46, 68, 69, 105, 108, 117, fast=True)
async def no_files(kit: Kit) -> str:
    """No process writes, or tries to write, a file: the file system may be read-only."""
    told = await kit.told()
    require(not told.deploy.writes, "; ".join(told.deploy.writes[:3]))
    require(not told.left, f"left in the folder for temporary files: {told.left[:3]}")
    return f"{len(told.deploy.processes)} processes on a read-only file system, no attempt to write"


@check("XI-7", 67, 68, needs=("bin/deploy", "web"))
async def collected(kit: Kit) -> str:
    """What a deploy starts writes to where the platform collects it: nothing is thrown away."""
    told = await kit.once(delivered)
    seen = []
    for name, body in starts(told):
        driver = body.get("logging", {}).get("driver", "the engine's own")
        require(driver != "none", f"the lines of {name} are thrown away")
        seen.append(f"{name}: {driver}")
    require(seen, "no deploy says what is started")
    return ", ".join(sorted({*seen}))


@check("XI-9", 71, 86, 117, needs=("worker", "story.enqueue"))
async def tried_again(kit: Kit) -> str:
    """A job that is begun again says which request asked for it, as it did the first time."""
    told = await kit.once(crashed)
    silent = [one for one in told.again if told.request not in one.values()]
    require(told.again and not silent, f"of {told.request}, begun again: {silent[:1]}")
    return f"{len(told.again)} jobs begun again, each with its request's id"


@check("XI-6", 71, needs=("web",))
async def traces(kit: Kit) -> str:
    """A caller's trace goes on: its id stands on the lines of its request and of its jobs."""
    enqueue = kit.offered("enqueue")
    async with kit.whole() as deploy:
        client = Client(deploy)
        trace = uuid.uuid4().hex
        client.headers["traceparent"] = f"00-{trace}-00f067aa0ba902b7-01"
        await client.ask(404, "GET", "/no-such-page")
        types = ["web"]
        if enqueue and "worker" in kit.procfile:
            about = await enqueue(client, 1)
            await until(lambda: kit.offered("done")(client, about), "the job of a traced request")
            types.append("worker")
        for type in types:
            await logged(deploy.of(type)[0], trace)
    return f"its id on lines of {' and '.join(types)}"
