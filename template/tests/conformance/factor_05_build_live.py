"""V. Build, release, run: what was built runs as it is, under the name of its release."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .catalogue import check, require
from .engine import Call, Verbs, verbs
from .kit import Kit, digests

IMAGES = [f"registry.example/service@sha256:{digit * 64}" for digit in "ab"]
DEPLOYED = ("PORT", "RELEASE_ID", "REVISION")  # the deploy sets these itself
BUILDS = {"build", "--build"}
LEVELS = ("INFO", "WARNING")  # of the two images' configurations
ROLLBACK_SECONDS = 300


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """The file that each name stands for, and when it was written."""
    return {one.name: (one.stat().st_ino, one.stat().st_mtime_ns) for one in folder.iterdir()}


def digest(folder: Path) -> dict[str, str]:
    return digests(folder, [path for path in sorted(folder.rglob("*")) if path.is_file()])


@check("V-1", 20, 29, 37, 38, 39)
async def releases(kit: Kit) -> str:
    """A run changes nothing that was built, and says its release; a former release runs again."""
    async with kit.deploy() as deploy:
        deploy.root = kit.copied(deploy.folder / "copy")
        home = {"PYTHONPATH": str(kit.sources(deploy.root))}
        before = digest(deploy.root)
        releases = [f"{kit.package}-{name}" for name in ("1111111-aaaaaa", "2222222-bbbbbb")]
        for release in [*releases, releases[0]]:
            process = await deploy.start(kit.serving[0], **home, RELEASE_ID=release)
            if process.type == "web":
                await process.ready()
                said = (await process.get("/version")).text
                require(release in said, f"release {release}: /version says {said}")
            await process.speaks()
            silent = [line for line in process.lines if release not in line]
            require(not silent, f"a line without its release: {silent[:1]}")
            await process.stop()
        after = digest(deploy.root)
        changed = {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
        require(not changed, f"changed by running: {sorted(changed)[:5]}")
    return f"{releases[0]}, {releases[1]} and back; {len(before)} files unchanged"


@check("V-2", 35, 80, 111, needs=("bin/build",))
async def builds_a_commit(kit: Kit) -> str:
    """A build takes a commit, whole and nothing else: no setting, no service, no loose file."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        made = verbs(kit, Path(folder))
        loose = made.checkout / "src" / "loose.py"
        loose.write_text("")
        await made.refused("build")
        loose.unlink()
        image = await made.answer("build")
        require("sha256:" in image, f"bin/build says {image}")
        built = [one for one in made.calls if one["words"][0] == "build"]
        require(len(built) == 1, f"{len(built)} builds of one commit")
        commit, files = made.git("rev-parse", "HEAD"), made.git("ls-files").splitlines()
        require(f"REVISION={commit}" in built[0]["words"], f"not told: {built[0]['words']}")
        strange = {*built[0]["files"]} - {*files}
        require(not strange, f"not of the commit: {sorted(strange)[:3]}")
        around = sorted({*kit.example} & {*built[0]["env"]})
        require(not around, f"the build is given {around}")
    return f"{commit[:7]}: {len(built[0]['files'])} files, no setting; a loose file is refused"


@check("V-3", 29, 36, 37, 81, needs=("bin/release",))
async def records(kit: Kit) -> str:
    """A release is a build and a configuration under one id; its record has no value and stays."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as place:
        made = verbs(kit, Path(place))
        one = await released(kit, made, "staging", IMAGES[0], "INFO")
        folder = made.state / "home" / "staging" / "records"
        kept = stamps(folder)
        again = await released(kit, made, "staging", IMAGES[0], "INFO")
        other = await released(kit, made, "staging", IMAGES[0], "ERROR")
        require(one == again, f"the same build and configuration are {one}, then {again}")
        require(one != other, f"another configuration is {one} too")
        commit = made.git("rev-parse", "--short=7", "HEAD")
        require(one.rpartition("-")[0].endswith(f"-{commit}"), f"{one} is of commit {commit}")
        now = stamps(folder)
        changed = [name for name, was in kept.items() if now.get(name) != was]
        require(not changed and len(now) == 2, f"{len(now)} records, changed: {changed}")
        for path in folder.iterdir():
            shown = [name for name, one in passwords(kit).items() if one in path.read_text()]
            require(not shown, f"{path.name} has the values of {shown}")
        config = ["--config", str(configured(kit, made, "INFO"))]
        for image in ("registry.example/service:latest", "registry.example/service"):
            await made.refused("release", "staging", image, *config)
        await made.refused("release", "production", IMAGES[1], *config)
        await made.answer("release", "production", IMAGES[0], *config)
    return f"{one}, {other}; a tag is refused, and in production what staging has not had"


@dataclass(frozen=True)
class Delivered:
    """Two releases that were deployed, one after the other, and the way back to the first."""

    made: Verbs
    ids: list[str]
    there: list[Call]
    back: list[Call]
    seconds: float


async def delivered(kit: Kit) -> Delivered:
    place = kit.stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-"))
    made = verbs(kit, Path(place))
    ids = [
        await released(kit, made, "staging", image, level)
        for image, level in zip(IMAGES, LEVELS, strict=True)
    ]
    before = len(made.calls)
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
    return Delivered(made, ids, calls[before:between], calls[between:], took)


@check("V-4", 40, 90, 120, 124, needs=("bin/rollback", "web"))
async def rolled_back(kit: Kit) -> str:
    """An earlier release runs again by its id, as it was: nothing is built, nothing migrates."""
    told = await kit.once(delivered)
    require(told.seconds < ROLLBACK_SECONDS, f"going back took {told.seconds:.0f} s")
    wrong = [one["words"] for one in told.back if "run" in one["words"]]
    wrong += [one["words"] for one in told.there + told.back if BUILDS & {*one["words"]}]
    require(not wrong, f"a deploy, or the way back, does {wrong[:1]}")
    started = [one["env"] for one in told.back if "up" in one["words"]]
    require(started, "nothing was started")
    for env in started:
        seen = [env.get(name) for name in ("RELEASE_ID", "IMAGE", "LOG_LEVEL")]
        require(seen == [told.ids[0], IMAGES[0], LEVELS[0]], f"{told.ids[0]} runs as {seen}")
    back = f"from {told.ids[1]} to {told.ids[0]} in {told.seconds:.1f} s"
    return f"{back}, its image, its configuration"


def passwords(kit: Kit) -> dict[str, str]:
    """A password for each variable that points at a service by a URL."""
    return {name: f"{name.lower()}-of-the-kit" for name in kit.required_urls}


def configured(kit: Kit, made: Verbs, level: str) -> Path:
    """A file with the settings of an environment."""
    values = {name: value for name, value in kit.example.items() if value and name not in DEPLOYED}
    for name, password in passwords(kit).items():
        values[name] = values[name].replace("://", f"://kit:{password}@")
    values["LOG_LEVEL"] = level
    path = made.state / f"{level}.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return path


async def released(kit: Kit, made: Verbs, environment: str, image: str, level: str) -> str:
    config = await asyncio.to_thread(configured, kit, made, level)
    return await made.answer("release", environment, image, "--config", str(config))
