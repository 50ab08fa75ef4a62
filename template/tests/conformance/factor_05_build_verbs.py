"""V. Build, release, run: a build is of a commit, a release is a build with its configuration."""

import asyncio
import tempfile
from pathlib import Path

from .catalogue import check, require
from .engine import Verbs, verbs
from .kit import Kit

IMAGES = [f"registry.example/service@sha256:{digit * 64}" for digit in "ab"]
DEPLOYED = ("PORT", "RELEASE_ID", "REVISION")  # the deploy sets these itself
LEVELS = ("INFO", "WARNING")  # of the two images' configurations


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


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """The file that each name stands for, and when it was written."""
    return {one.name: (one.stat().st_ino, one.stat().st_mtime_ns) for one in folder.iterdir()}


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
