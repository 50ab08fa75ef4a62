"""III. Config: everything that differs between deploys comes from the environment."""

import asyncio
import json
import re
import uuid
from contextlib import suppress
from typing import Any

from .catalogue import Broken, check, require
from .factor_03_config import NAMES
from .kit import Kit
from .platform import OWN, Client, Process, until
from .reading import SECRET
from dev.__main__ import ONE_OFF

REFUSAL_SECONDS = 2
# What libraries and frameworks read by themselves: each would break the story, or change it.
AMBIENT = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "DATABASE_URL": "postgresql://127.0.0.1:9/nowhere",
    "DEBUG": "1",
    "PGDATABASE": "nowhere",
    "PGHOST": "127.0.0.9",
    "PGPORT": "9",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "UVICORN_PORT": "9",
    "WEB_CONCURRENCY": "4",
}


async def ends(process: Process) -> bool:
    """Whether a process ends at once, as one that refuses its settings does."""
    await until(lambda: process.text or not process.alive, f"{process.type} says something")
    with suppress(TimeoutError):
        async with asyncio.timeout(REFUSAL_SECONDS):
            await process.child.wait()
    return not process.alive


async def refused(process: Process) -> Process:
    """A process that must have ended with an error, in JSON alone."""
    code = await process.ended()
    require(code > 0, f"{process.type} ended with {code}: {process.tail()}")
    require(len(process.events) == len(process.lines) > 0, f"not JSON: {process.tail()}")
    require(not process.errors, f"on stderr: {process.errors[:3]}")
    return process


def named(process: Process, names: set[str]) -> set[str]:
    """The variables that a process speaks of."""
    return {name for name in names if name in json.dumps(process.events)}


@check("III-1", 26, 29, 77, 112, fast=True)
async def declared(kit: Kit) -> str:
    """The declared variables suffice; without a required one the process ends, naming it."""
    type = kit.serving[0]
    async with kit.deploy(released=False) as deploy:
        everything = set(deploy.environment) - {"PORT"}
        empty = await deploy.start(type, **dict.fromkeys(everything))
        required = named(await refused(empty), everything) if await ends(empty) else set()
        for name in kit.required_urls:
            require(
                name in required, f"{name} has a default: without it {type} says {empty.tail()}"
            )
        canaries = {name: f"canary-{uuid.uuid4().hex}" for name in kit.urls}
        wrong: list[dict[str, str | None]] = [{name: value} for name, value in canaries.items()]
        wrong += [{name: None} for name in sorted(required)]
        started = [await deploy.start(type, **one) for one in wrong]
        for variables, process in zip(wrong, started, strict=True):
            await refused(process)
            require(named(process, set(variables)), f"without {set(variables)}: {process.tail()}")
            shown = [value for value in canaries.values() if value in process.text]
            require(not shown, f"the value of {set(variables)} is shown: {process.tail()}")
        sparse = await deploy.start(type, **dict.fromkeys(everything - required))
        require(not await ends(sparse), f"the required ones do not suffice: {sparse.tail()}")
    names = ", ".join(sorted(required)) or "none"
    return f"required: {names}; each missing one named in JSON, no value shown"


@check("III-2", 26)
async def dotenv(kit: Kit) -> str:
    """A .env beside the code is not config: only the environment is."""
    async with kit.deploy() as deploy:
        copy = kit.copied(deploy.folder / "copy")
        home = {"PYTHONPATH": str(kit.sources(copy))}
        everything = deploy.environment | {"REVISION": uuid.uuid4().hex}
        lines = [f"{name}={value}\n" for name, value in everything.items() if name != "PORT"]
        (copy / ".env").write_text("".join(lines))
        deploy.root = copy
        process = await deploy.start(kit.serving[0], **home, REVISION=None)
        await process.speaks()
        require(everything["REVISION"] not in process.text, f"from .env: {process.tail()}")
        require(not await ends(process), f"it does not start beside a .env: {process.tail()}")
        for type in (kit.serving[0], *(one for one in ONE_OFF if one in kit.procfile)):
            for name in kit.required_urls:
                process = await refused(await deploy.start(type, **home, **{name: None}))
                found = named(process, {name})
                require(found, f"{type}: {name} was read from .env: {process.tail()}")
    return f"ignored, though it held {len(lines)} variables"


async def answers(web: Process, path: str) -> str:
    """What it answers, as soon as it does."""
    answer = await web.asked(path)
    return OWN.sub("id", f"{answer.status_code} {answer.text}")


@check("III-7", 26, 30, needs=("web",))
async def rotated(kit: Kit) -> str:
    """A secret that was changed counts from the next start on, the former one no more, and stays
    with its process; a variable that nobody declared changes nothing."""
    enqueue = kit.offered("enqueue") if "worker" in kit.procfile else None
    async with kit.whole() as deploy:
        before = Client(deploy)
        await (enqueue(before, 1) if enqueue else kit.tell(before))  # the former one has been used
        found = [name for name in kit.example if SECRET.search(name)]
        new = {name: uuid.uuid4().hex for name in found if name not in {*deploy.places, *kit.urls}}
        unknown = {name: value for name, value in AMBIENT.items() if name not in kit.example}
        web = await deploy.start("web", **new, **unknown)
        await web.ready()

        async def holds(**secrets: str) -> bool:
            client = Client(deploy)
            client.environment = deploy.environment | secrets
            client.balancer.fixed = web
            await kit.tell(client)
            return True

        seen = len(deploy.found)
        deploy.seek(re.compile(b"|".join(map(str.encode, new.values()))) if new else None)
        await holds(**new)
        deploy.seek(None)
        require(not deploy.found[seen:], "a secret of one process went to a backing service")
        if new:
            wrong, former = False, False
            with suppress(Broken):
                former = await holds()
            with suppress(Broken):  # a story may need no secret at all
                wrong = former and await holds(**dict.fromkeys(new, uuid.uuid4().hex))
            require(wrong or not former, f"the former {', '.join(new)} still holds")
        await web.stop()
    changed = f"{', '.join(new) or 'no secret'} changed"
    return f"{changed}, {len(unknown)} variables that nobody declared: the story holds"


@check("III-3", 26, 102, needs=("web",))
async def environments(kit: Kit) -> str:
    """No environment's name changes what the service does; the log level does."""
    async with kit.deploy() as deploy:
        seen: dict[str, Any] = {}
        pages = ("/", "/docs", "/openapi.json", "/no-such-page", "/version", "/debug")
        for name in ("production", "development"):
            web = await deploy.start("web", **dict.fromkeys(NAMES, name))
            await web.ready()
            said = [await answers(web, page) for page in pages]
            await web.stop()
            answered = [one for one in web.events if {*pages} & {*map(str, one.values())}]
            kinds = [(one["event"], one["level"], sorted(one)) for one in answered]
            seen[name] = [said, kinds]
        require(*differ(seen["production"], seen["development"]))
        quiet = await deploy.start("web", LOG_LEVEL="ERROR")
        await quiet.ready()
        await quiet.stop()
        require(not quiet.lines, f"LOG_LEVEL=ERROR changes nothing: {quiet.tail()}")
    return f"{len(pages)} pages and their log lines the same; LOG_LEVEL takes effect"


def differ(one: Any, other: Any) -> tuple[bool, str]:
    pairs = [
        (a, b)
        for kind, kinds in zip(one, other, strict=True)
        for a, b in zip(kind, kinds, strict=False)
    ]
    found = [f"{a!s:.150} in production, {b!s:.150} in development" for a, b in pairs if a != b]
    return one == other, "; ".join(found) or f"{one!s:.300} is not {other!s:.300}"
