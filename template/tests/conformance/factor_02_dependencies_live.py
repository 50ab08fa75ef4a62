"""II. Dependencies: the service runs with its interpreter alone."""

import asyncio
import os
import re
import socket
import sys
import zipfile
from pathlib import Path

from .catalogue import check, require
from .factor_02_dependencies import PATH
from .kit import Kit
from .platform import Client


@check("II-4", 22, fast=True)
async def tools(kit: Kit) -> str:
    """No process starts another program, with a PATH that holds nothing but the interpreter."""
    told = await kit.told()
    # A library may look for a tool; that it was not there has harmed nobody.
    looked = {
        act.split()[1]
        for act in told.deploy.starts
        if "site-packages" in act and "/" not in act.split()[1]
    }
    started = [act for act in told.deploy.starts if act.split()[1] not in looked]
    require(not started, "; ".join(started[:3]))
    children = {pid: own for pid, own in told.children.items() if own}
    require(not children, f"processes have children: {children}")
    missed = f"; a library looked for {', '.join(looked)}" if looked else ""
    return f"{len(told.deploy.processes)} processes, none started a program{missed}"


@check("II-6", 21, 23, fast=True)
async def fetched(kit: Kit) -> str:
    """No process asks for a host that no variable names: nothing is fetched when it runs."""
    told = await kit.told()
    values = " ".join([*told.deploy.environment.values(), *told.deploy.urls.values()])
    named = {*re.findall(r"[\w.-]+", values), "localhost", socket.gethostname(), "None"}
    strange = {one for one in told.deploy.hosts - named if not re.fullmatch(r"[\d.]+|\S*:\S*", one)}
    require(not strange, f"looked up, and in no variable: {sorted(strange)}")
    return f"{len(told.deploy.hosts)} names looked up, each of them in a variable"


@check("II-3", 24, 25, 35, needs=("pyproject.toml",), leaves=True)
async def built(kit: Kit) -> str:
    """The built package runs far from the checkout; a second build has the same bytes."""
    async with kit.left() as deploy:
        wheels = [await wheel(kit, deploy.folder / name) for name in ("one", "other")]
        one, other = (path.read_bytes() for path in wheels)
        require(one == other, "two builds of the same files differ")
        package = deploy.folder / "package"
        zipfile.ZipFile(wheels[0]).extractall(package)
        deploy.root = deploy.folder / "nowhere"
        deploy.root.mkdir()
        deploy.environment["PYTHONPATH"] = str(package)
        if "release" in kit.procfile:
            await deploy.run("release")
        for process in await deploy.up(*kit.serving):
            await process.speaks()
        await kit.tell(Client(deploy))
    return f"{wheels[0].name}, {len(one):,} bytes, built twice; the story holds on it alone"


async def wheel(kit: Kit, place: Path) -> Path:
    """Build a copy of the checkout, with no variable of the service."""
    copy = await asyncio.to_thread(kit.copied, place / "checkout")
    keep = ("HOME", "UV_", "SSL_CERT", "PIP_", "HTTP", "http")
    environment = {name: value for name, value in os.environ.items() if name.startswith(keep)}
    build = await asyncio.create_subprocess_exec(
        *("uv", "build", "--quiet", "--wheel", "--python", sys.executable),
        *("--out-dir", str(place / "dist"), str(copy)),
        env=environment | {"PATH": PATH},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await build.communicate()
    require(build.returncode == 0, f"uv build: {said.decode()[-500:]}")
    (path,) = (place / "dist").glob("*.whl")
    return path
