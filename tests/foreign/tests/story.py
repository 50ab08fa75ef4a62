"""The story of the notes: one is written, and every replica has it, whoever dies."""

from typing import Any

from tests.conformance.platform import Client

TOUCH: list[tuple[str, str, dict[str, Any]]] = [("GET", "/notes", {})]


async def tell(client: Client) -> None:
    before = len(await written(client))
    client.transcript.clear()  # how many there are is no part of the story
    await write(client, "a note")
    await client.disturb()
    for _ in range(4):
        found = await client.balancer.request("GET", "/notes")
        client.transcript.append(f"{len(found.json()) - before} more")
    await client.ask(404, "GET", "/other")


async def write(client: Client, name: str) -> None:
    await client.ask(201, "POST", "/notes", content=name.encode())


async def written(client: Client) -> list[str]:
    """The names that were written, each as often as it was."""
    return list((await client.ask(200, "GET", "/notes")).json())
