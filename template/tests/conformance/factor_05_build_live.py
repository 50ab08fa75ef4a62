"""V. Build, release, run: what was built runs as it is, under the name of its release."""

import functools
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .catalogue import check, require
from .engine import Call, Verbs, verbs
from .factor_05_build_verbs import IMAGES, LEVELS, released
from .kit import MIGRATION, Kit, digests
from .platform import Client, Deploy, Process, until

BUILDS = {"build", "--build"}
ROLLBACK_SECONDS = 300
LATER = "afterwards"  # a process type that is new in the checkout when releases are there


def digest(folder: Path) -> dict[str, str]:
    return digests(folder, [path for path in sorted(folder.rglob("*")) if path.is_file()])


@check("V-1", 20, 29, 37, 38, 39)
async def releases(kit: Kit) -> str:
    """A run changes nothing that was built, and says its release; a former release runs again."""
    async with kit.deploy() as deploy:
        deploy.root = kit.copied(deploy.folder / "copy")
        home = {"PYTHONPATH": str(kit.sources(deploy.root))}
        before = digest(deploy.root)
        enqueue = kit.offered("enqueue") if "worker" in kit.procfile else None
        former, later = (f"{kit.package}-{name}" for name in ("1111111-aaaaaa", "2222222-bbbbbb"))
        for release in (later, former):
            process = await deploy.start(kit.serving[0], **home, RELEASE_ID=release)
            if process.type == "web":
                await process.ready()
                said = (await process.get("/version")).text
                require(release in said, f"release {release}: /version says {said}")
            await process.speaks()
            require(*says(process))
            if release == former and enqueue:  # whose job a worker of the later one does
                client = Client(deploy)
                client.balancer.fixed = process
                about = await enqueue(client, 1)
                bringing = [one for one in kit.serving if one not in (process.type, "clock")]
                others = [await deploy.start(type, **home, RELEASE_ID=later) for type in bringing]
                done = functools.partial(kit.offered("done"), client, about)
                await until(done, "a job of another release is done")
                for other in others:
                    require(*says(other))
                    await other.stop()
            await process.stop()
        after = digest(deploy.root)
        changed = {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
        require(not changed, f"changed by running: {sorted(changed)[:5]}")
    return f"{later}, and {former} after it; {len(before)} files unchanged"


def says(process: Process) -> tuple[bool, str]:
    """Whether each line of a process has its release, and the first that has not."""
    release = process.environment["RELEASE_ID"]
    silent = [line for line in process.lines if f'"{release}"' not in line]
    return not silent, f"a line of {process.type} without its release {release}: {silent[:1]}"


@dataclass(frozen=True)
class Delivered:
    """Two releases that were deployed, one after the other, and the way back to the first."""

    made: Verbs
    ids: list[str]
    there: list[Call]
    back: list[Call]
    seconds: float
    mistaken: int  # the exit code of a deploy whose address is another release's


async def delivered(kit: Kit) -> Delivered:
    place = kit.stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-"))
    made = verbs(kit, Path(place))
    ids = [
        await released(kit, made, "staging", image, level)
        for image, level in zip(IMAGES, LEVELS, strict=True)
    ]
    before = len(made.calls)
    with (made.checkout / "Procfile").open("a") as procfile:  # a checkout goes on
        procfile.write(f"{LATER}: {kit.procfile['web']}\n")
    async with kit.deploy() as deploy:
        for id in ids:
            web = await deploy.start("web", RELEASE_ID=id)
            await web.ready()
            (made.engine / id).write_text(f"127.0.0.1:{web.port}")
        for id in ids:
            await made.answer("deploy", id)
        between, began = len(made.calls), time.monotonic()
        await made.answer("rollback", "staging")
        took = time.monotonic() - began
        calls = made.calls
        (made.engine / ids[1]).write_text((made.engine / ids[0]).read_text())
        mistaken, _, _ = await made.run("deploy", ids[1], seconds=2)
    return Delivered(made, ids, calls[before:between], calls[between:], took, mistaken)


def starts(told: Delivered) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was started, by name, as compose's models have it."""
    for one in told.there + told.back:
        yield from (yaml.safe_load(one["given"]) or {}).get("services", {}).items()


@check("V-4", 40, 90, 120, 124, needs=("bin/rollback", "web"))
async def rolled_back(kit: Kit) -> str:
    """An earlier release runs again by its id, as it was: nothing is built, nothing migrates."""
    told = await kit.once(delivered)
    require(told.seconds < ROLLBACK_SECONDS, f"going back took {told.seconds:.0f} s")
    wrong = [one["words"] for one in told.back if "run" in one["words"]]
    wrong += [one["words"] for one in told.there + told.back if BUILDS & {*one["words"]}]
    require(not wrong, f"a deploy, or the way back, does {wrong[:1]}")
    strange = LATER in {name for name, _ in starts(told)}
    require(not strange, "a release starts what the checkout has now, and not what it had")
    started = [one["env"] for one in told.back if "up" in one["words"]]
    require(started, "nothing was started")
    for env in started:
        seen = [env.get(name) for name in ("RELEASE_ID", "IMAGE", "LOG_LEVEL")]
        require(seen == [told.ids[0], IMAGES[0], LEVELS[0]], f"{told.ids[0]} runs as {seen}")
    back = f"from {told.ids[1]} to {told.ids[0]} in {told.seconds:.1f} s"
    return f"{back}, its image, its configuration"


@check("V-9", 83, needs=("bin/deploy", "bin/rollback", "web"))
async def asked(kit: Kit) -> str:
    """A deploy asks what it has started, and fails where another release answers."""
    told = await kit.once(delivered)
    require(told.mistaken != 0, f"{told.ids[0]} answers for {told.ids[1]}, and the deploy is well")
    return f"{told.ids[0]} answered for {told.ids[1]}: the deploy ended with {told.mistaken}"


NEXT = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "kit_{name}", "{head}", None, None


def upgrade() -> None:
    op.execute("create table kit_next (id int)")


def downgrade() -> None:
    op.execute("drop table kit_next")
"""


@dataclass(frozen=True)
class Migrated:
    """A deploy whose schema a release of the future has made, by one migration more."""

    deploy: Deploy
    head: str  # the migration before it
    seen: list[str]  # what the releases did with its table
    failed: Process  # the release after that one, whose migration cannot be


async def migrated(kit: Kit) -> Migrated:
    deploy = await kit.stack.enter_async_context(kit.deploy())
    copy = kit.copied(deploy.folder / "copy")
    home = {"PYTHONPATH": str(kit.sources(copy))}
    paths = [copy / path.relative_to(kit.root) for path in kit.migrations]
    texts = [path.read_text() for path in paths]
    known = [re.search(r"(?m)^revision\b[^=\n]*=\s*[\"']([^\"']+)", text) for text in texts]
    former = "\n".join(re.findall(r"(?m)^down_revision\b.*", "\n".join(texts)))
    heads = [one[1] for one in known if one and not re.search(rf"[\"']{one[1]}[\"']", former)]
    deploy.seek(re.compile(rb"(?i)(?:create|drop) table kit_next"))
    deploy.root = copy
    add(paths[0].parent, "next", heads[-1])
    await deploy.run("release", **home)
    seen = [one.decode().lower() for one in deploy.found]
    add(paths[0].parent, "fails", "kit_next")  # whose table is there
    failed = await deploy.start("release", **home)
    await failed.ended(60)
    deploy.seek(None)
    deploy.root = kit.root
    return Migrated(deploy, heads[-1], seen, failed)


def add(folder: Path, name: str, head: str) -> None:
    """Put one more migration after this one."""
    (folder / f"kit_{name}.py").write_text(NEXT.format(name=name, head=head))


@check("V-10", 40, 90, 120, needs=("web", "release", MIGRATION))
async def behind(kit: Kit) -> str:
    """A release runs on the schema that a later one has made: there is a way back."""
    told = await kit.once(migrated)
    (web,) = await told.deploy.up("web")
    answers = await kit.touch(web)
    await web.stop()
    failed = [f"{path}: {one.status_code}" for path, one in answers.items() if one.is_server_error]
    require(not failed, f"on the schema of a later release: {failed}")
    return f"ready, and {len(answers)} requests answered, after a migration that it does not know"
