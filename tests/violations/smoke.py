"""The smoke test of a laptop, run in the service: `bin/dev`, and the story told once."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from dev import services
from dev.server import free_port
from tests.conformance.kit import Kit
from tests.conformance.platform import Client, Deploy, Process

SECONDS = 90


def as_on_a_laptop(name: str, url: str) -> str:
    """The same place for the user of the URL that is given, who may do everything."""
    user = urlsplit(services.given().get(name, "")).netloc.rpartition("@")[0]
    place = urlsplit(url)
    host = place.netloc.rpartition("@")[2]
    return urlunsplit(place._replace(netloc=f"{user}@{host}" if user else host))


async def main() -> None:
    kit = Kit(services.ROOT)
    with (
        tempfile.TemporaryDirectory() as folder,
        services.isolated(services.ROOT / ".dev", services.given()) as isolated,
    ):
        urls = {name: as_on_a_laptop(name, url) for name, url in isolated.items()}
        port = int(os.environ.get("PORT") or free_port())
        environment = {**os.environ, **urls, "PORT": str(port)}
        deploy = Deploy(services.ROOT, kit.procfile, services.example() | environment, Path(folder))
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dev"),
            env=environment,
            limit=2**24,
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        laptop = Process("web", child, environment, Path(folder), deploy.client)
        try:
            async with asyncio.timeout(SECONDS):
                if "web" in kit.procfile:
                    await laptop.ready()
                client = Client(deploy)
                client.balancer.fixed = laptop
                client.balancer.forwarded = {}  # nothing stands before it
                await kit.tell(client)
            if not laptop.alive:
                sys.exit(f"a process ended: {laptop.tail()}")
        except BaseException:
            sys.stderr.write("\n".join([*laptop.lines, *laptop.errors, ""]))
            raise
        finally:
            for pid in re.findall(r"started, process (\d+)", laptop.text):
                with suppress(ProcessLookupError):
                    os.killpg(int(pid), signal.SIGKILL)
            if laptop.alive:
                child.kill()
            await child.wait()
            await deploy.end()


if __name__ == "__main__":
    asyncio.run(main())
