"""Checks of the image, for `bin/conformance --image`: they build it with a container engine."""

import asyncio
import json
import os
import re
import signal
import subprocess
import uuid
from dataclasses import dataclass
from typing import Any

from .catalogue import check, require
from .factor_02_dependencies import PATH
from .kit import Kit

BUILD_SECONDS = 900
CHUNK = 2**20
ENDED = (0, 128 + signal.SIGTERM)
FIRST = "print(open('/proc/1/cmdline').read().replace(chr(0), ' '))"
INSTALLED = """
from importlib.metadata import distributions
print(*(f"{one.name}=={one.version}" for one in distributions()))
"""


@dataclass(frozen=True)
class Image:
    """What was built, and what was around when it was."""

    id: str
    revision: str
    around: str  # in the environment and in a .env beside the code

    async def inspect(self) -> dict[str, Any]:
        (found,) = json.loads(await docker("image", "inspect", self.id))
        config: dict[str, Any] = found["Config"]
        return config


async def docker(*words: str, seconds: float = 60, **variables: str) -> str:
    """What the engine says; Broken if it fails or there is none."""
    try:
        child = await asyncio.create_subprocess_exec(
            *("docker", *words),
            env=os.environ | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError:
        require(False, "there is no docker to build the image with")
    async with asyncio.timeout(seconds):
        said, _ = await child.communicate()
    text = said.decode(errors="replace").strip()
    require(child.returncode == 0, f"docker {words[0]}: {text[-600:]}")
    return text


async def built(kit: Kit) -> Image:
    """The image of a copy of the checkout, with settings of a developer around."""
    made = Image(f"conformance-{uuid.uuid4().hex}", uuid.uuid4().hex, uuid.uuid4().hex)
    kit.stack.push_async_callback(docker, "image", "rm", "--force", made.id)
    place = await kit.stack.enter_async_context(kit.deploy(released=False))
    copy = await asyncio.to_thread(kit.copied, place.folder / "copy")
    settings = {name: made.around for name in kit.example if name not in ("PATH", "REVISION")}
    (copy / ".env").write_text("".join(f"{name}={made.around}\n" for name in settings))
    words = ["build", "--build-arg", f"REVISION={made.revision}", "--tag", made.id, str(copy)]
    await docker(*words, seconds=BUILD_SECONDS, DOCKER_BUILDKIT="1", **settings)
    return made


@check("I-5", 19, 81, 111, needs=("Dockerfile",))
async def label(kit: Kit) -> str:
    """The image says which commit it was built of, in its label and to its processes."""
    image = await kit.once(built)
    config = await image.inspect()
    told = (config["Labels"] or {}).get("org.opencontainers.image.revision")
    require(told == image.revision, f"built of {image.revision}, its label says {told}")
    env = config["Env"]
    require(f"REVISION={image.revision}" in env, f"its processes get {env}")
    return "its label and its variable REVISION are the commit's"


@check("II-5", 24, 79, 98, 107, needs=("Dockerfile", "uv.lock"))
async def packages(kit: Kit) -> str:
    """The image has the packages of the lock, in their versions, and none of the developers'."""
    image = await kit.once(built)
    lock = await asyncio.to_thread(locked, kit)
    said = await docker("run", "--rm", "--entrypoint", "python", image.id, "-c", INSTALLED)
    there = {normal(one) for one in said.split()}
    own = {one for one in there if one.partition("==")[0] == normal(kit.package)}
    require(own, f"{kit.package} itself is not in the image: {sorted(there)}")
    # The interpreter's own installer comes with the base image.
    strange = {one for one in there - own - lock.keys() if not one.startswith("pip==")}
    require(not strange, f"in the image and not in the lock: {sorted(strange)}")
    # A line with a condition may be for another system or Python.
    missing = {one for one, everywhere in lock.items() if everywhere} - there
    require(not missing, f"in the lock and not in the image: {sorted(missing)}")
    return f"{len(there)} packages, each of the lock and in its version"


def locked(kit: Kit) -> dict[str, bool]:
    """What the lock has for who runs the service, and whether on every system."""
    export = ["uv", "export", "--locked", "--no-dev", "--no-emit-project", "--no-hashes", "--quiet"]
    environment = os.environ | {"PATH": PATH}
    done = subprocess.run(export, cwd=kit.root, env=environment, capture_output=True, text=True)
    require(done.returncode == 0, f"uv export: {done.stderr[-300:]}")
    lines = [line for line in done.stdout.splitlines() if "==" in line]
    return {normal(line.partition(";")[0]): ";" not in line for line in lines}


def normal(requirement: str) -> str:
    """A package and its version, the name as all tools write it."""
    name, _, version = requirement.strip().partition("==")
    return "==".join([re.sub(r"[-_.]+", "-", name).lower(), *([version] if version else [])])


@check("III-6", 31, needs=("Dockerfile",))
async def nothing_baked_in(kit: Kit) -> str:
    """No setting that was around when the image was built is in one of its layers."""
    image = await kit.once(built)
    found, size = await asyncio.to_thread(searched, image)
    require(image.revision in found, "the commit is not in it either: nothing was searched")
    require(image.around not in found, "a setting of the machine that built it is in the image")
    return f"{size / 2**20:,.0f} MiB of layers hold the commit and no setting"


def searched(image: Image) -> tuple[set[str], int]:
    """Which of the two values the layers and the description of an image hold; its bytes."""
    found, size, tail = set(), 0, b""
    with subprocess.Popen(["docker", "save", image.id], stdout=subprocess.PIPE) as saving:
        assert saving.stdout
        while block := saving.stdout.read(CHUNK):
            window = tail + block
            found |= {one for one in (image.revision, image.around) if one.encode() in window}
            size, tail = size + len(block), window[-64:]
    return found, size


@check("V-8", 11, 20, 38, 39, 99, needs=("Dockerfile",))
async def runs(kit: Kit) -> str:
    """The image runs each process type as it is: read-only, as nobody, the process itself first."""
    image = await kit.once(built)
    user = str((await image.inspect())["User"])
    require(re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user), f"it runs as {user or 'root'}")
    host = ["--rm", "--network=host", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    async with kit.deploy() as deploy:
        deploy.environment.pop("REVISION")  # the image has its own
        for type in kit.serving:
            name = f"conformance-{uuid.uuid4().hex}"
            kit.stack.push_async_callback(docker, "rm", "--force", name)
            process = await deploy.contain(type, *host, f"--name={name}", image.id)
            await (process.ready() if type == "web" else process.speaks())
            require(image.revision in process.lines[0], f"another commit: {process.lines[0]}")
            first = await docker("exec", name, "python", "-c", FIRST)
            require(first.startswith("python"), f"{type}: the first process is {first}")
            code = await process.stop()  # the client passes the signal on
            require(code in ENDED, f"{type} ended with {code}: {process.tail()}")
    return f"{', '.join(kit.serving)}: as {user}, on a read-only file system, SIGTERM ends each"
