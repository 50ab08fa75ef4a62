"""Chapter: somebody registers, guesses passwords, logs in, and out again."""

import uuid

from tests.conformance.platform import Client

TOUCH = [("POST", "/login", {"json": {"email": "ada@example.org", "password": "guessed"}})]


async def tell(client: Client) -> None:
    client.headers["X-Forwarded-For"] = uuid.uuid4().hex  # who it is, for limits
    ada = {"email": f"{uuid.uuid4()}@example.org", "password": "correct horse battery"}
    await client.ask(201, "POST", "/accounts", json=ada)
    await client.ask(409, "POST", "/accounts", json=ada)
    token = (await client.ask(200, "POST", "/login", json=ada)).json()["token"]
    for _ in range(7):
        await client.ask(401, "POST", "/login", json=ada | {"password": "guessed"})
    await client.ask(429, "POST", "/login", json=ada)
    me = {"Authorization": f"Bearer {token}"}
    await client.disturb()
    for _ in range(4):
        await client.ask(200, "GET", "/me", headers=me)
    await client.ask(204, "POST", "/logout", headers=me)
    await client.disturb()
    for _ in range(4):
        await client.ask(401, "GET", "/me", headers=me)
