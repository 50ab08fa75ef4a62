"""XII. Admin processes: one-offs of the same release, safe to run at any time."""

import asyncio
import itertools
import tempfile
import uuid
from pathlib import Path

from .catalogue import check, require
from .factor_05_build_live import delivered, migrated
from .factor_08_concurrency_live import idle
from .kit import CHANGES, FORMER, MIGRATION, Kit
from .platform import Client, Deploy, until

STEPS = {"run", "up"}  # of the container engine: a one-off, the processes
PARTS = (0.3, 0.5, 0.7)  # of a release, at which it is broken off


@check("XII-1", 72, 73, needs=("release",), fast=True, leaves=True)
async def again(kit: Kit) -> str:
    """The release process may run twice, and three times at once: the schema is made once."""
    async with kit.left(released=False) as deploy:
        await deploy.cut()
        code = await (await deploy.start("release")).ended(60)
        require(code != 0, "a release that reached nothing ended with 0")
        await deploy.mend()
        deploy.hold()
        three = [await deploy.start("release") for _ in range(3)]
        await deploy.held()
        deploy.slow(0.02)
        deploy.flow()
        ending = [asyncio.create_task(one.ended(60)) for one in three]
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        deploy.seek(CHANGES)  # one that has ended says that all is done
        codes = await asyncio.gather(*ending)
        said = "; ".join(one.tail() for one in three if one.child.returncode)
        require(codes == [0, 0, 0], f"three at once ended with {codes}: {said}")
        deploy.slow(0)
        deploy.seek(None)
        require(not deploy.found, f"one had ended with 0, and another still did {deploy.found[:1]}")
        client, written = Client(deploy), kit.offered("written")
        if "web" in kit.procfile:
            await deploy.up(*kit.serving)
        before = await written(client) if written else []
        await deploy.run("release")
        after = await written(client) if written else []
        require(before == after, f"one more release made {len(after) - len(before)} entries")
        if "web" in kit.procfile:
            await kit.tell(client)
    return "three at once and one more: exit 0, and the story holds on what they made"


@check("XII-2", 72, 109, 118, needs=("release",), fast=True)
async def schema(kit: Kit) -> str:
    """Only the release process changes the schema; no process works before it has."""
    told = await kit.told()
    require({*told.early} <= {503}, f"ready on an empty database: {told.early}")
    require(not told.changes, f"changed by no release: {told.changes[:1]}")
    return f"nobody began on an empty database: {len(told.early)} looks; all did once released"


@check("XII-10", 72, 109, 118, needs=("release", MIGRATION))
async def next_one(kit: Kit) -> str:
    """A release applies what is new to a database in use, all of it and nothing else, or fails."""
    told = await kit.once(migrated)
    said = f"the migration after {told.head}, of a release that ended with 0: {told.seen}"
    require(told.seen == ["create table kit_next"], said)
    code = told.failed.child.returncode
    require(code, f"a migration that fails, and the release ended with {code}")
    return f"a migration after {told.head} was applied, one that fails ended with {code}"


@check("XII-4", 40, 90, 118, needs=("release", FORMER))
async def former_release(kit: Kit) -> str:
    """The release before this one works on this one's schema, as it must until it is gone."""
    with tempfile.TemporaryDirectory(prefix="former-") as folder:
        former = kit.as_it_was(Path(folder))
        async with former.deploy(like=await kit.released()) as deploy:
            deploy.environment["PYTHONPATH"] = str(former.sources(former.root))
            for process in await deploy.up(*former.serving):
                await process.speaks()
            client = await former.tell(Client(deploy))
    return f"{kit.former} tells its story on this schema: {len(client.transcript)} answers"


@check("XII-5", 72, 109, needs=("release", "://"))
async def broken_off(kit: Kit) -> str:
    """A release that is broken off says so and leaves nothing half done: the next one succeeds."""
    whole = answers(await kit.once(Kit.release))
    async with kit.deploy(released=False) as deploy:
        deploy.slow(0.02)
        for part in PARTS:
            await cut_after(deploy, int(part * whole))
            await deploy.mend()
        deploy.slow(0)
        await deploy.run("release")
        await deploy.up("web")
    return f"broken off after {', '.join(f'{part:.0%}' for part in PARTS)}: an error, then well"


async def cut_after(deploy: Deploy, number: int) -> None:
    """Break a release off after so many answers of its services; it must end with an error."""
    number += answers(deploy)
    release = await deploy.start("release")
    await until(lambda: answers(deploy) > number or not release.alive, "a service answers")
    await deploy.cut()
    code = await release.ended(60)
    require(code > 0, f"broken off after {number} answers, it ended with {code}")


def answers(deploy: Deploy) -> int:
    return sum(at.answers for at in deploy.pipes.values())


@check("XII-9", 82, 109, 118, needs=("release", "bin/deploy", "web"))
async def migrates_first(kit: Kit) -> str:
    """A deploy migrates once and then starts the processes; if that fails it starts none."""
    told = await kit.once(delivered)
    made, steps = told.made, [step for one in told.there for step in STEPS & {*one["words"]}]
    order = [step for step, _ in itertools.groupby(steps)]
    once = steps.count("run") == len(told.ids) and order == ["run", "up"] * len(told.ids)
    require(once, f"{len(told.ids)} deploys did {steps}")
    (made.engine / "fails").touch()
    before = len(made.calls)
    code, said, _ = await made.run("deploy", told.ids[1])
    require(code != 0, f"a deploy whose migration failed ended with 0: {said}")
    started = [one["words"] for one in made.calls[before:] if "up" in one["words"]]
    require(not started, f"a deploy whose migration failed did {started[:1]}")
    return f"{len(told.ids)} deploys, each first migrated; one that could not started nothing"


@check("XII-12", 72, needs=("web", "://"))
async def no_task_at_start(kit: Kit) -> str:
    """No web process begins with a task: what has to be made before is made by a one-off."""
    made = await kit.once(idle)
    require(not made, f"made by a web process that nobody had asked anything: {made[:1]}")
    return "a web process that starts makes nothing"


@check("XII-6", 72, needs=("console",), fast=True)
async def console(kit: Kit) -> str:
    """The console runs what it is given, in the environment of the release."""
    mark = f"KIT_{uuid.uuid4().hex}"
    async with kit.whole() as deploy:
        copy = kit.copied(deploy.folder / "beside")
        (copy / ".env").write_text(f"{mark}=from a file\n")
        root, deploy.root = deploy.root, copy
        said = await Client(deploy).console(f"import os; print(6 * 7, os.environ.get('{mark}'))")
        deploy.root = root
        require(said == "42 None", f"the console said {said[:200]}")
    return "python -m runs what stands on standard input, exit 0"
