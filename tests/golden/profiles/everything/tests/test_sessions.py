import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Response
from httpx2 import ASGITransport, AsyncClient

from invoiceflow import redis, sessions, web
from invoiceflow.config import Settings

from tests.pipe import pipe
from tests.running import COMMANDS, Start, free_port, until

# The web process with one more route, which asks who is logged in.
PROCESS = """
import sys, types
from fastapi import APIRouter
from invoiceflow import __main__, parts, sessions

router = APIRouter()

@router.get("/who")
async def me(user: sessions.User) -> str:
    return user

module = types.ModuleType("invoiceflow.me")
module.router = router
sys.modules[module.__name__] = module
parts.ROUTES.append("me")
sys.argv = ["", "web"]
sys.exit(__main__.main())
"""


@pytest.fixture
async def client(attached: Settings) -> AsyncIterator[AsyncClient]:
    app = web.create(attached)
    install(app)
    async with AsyncClient(transport=ASGITransport(app), base_url="https://service") as client:
        yield client


def install(app: FastAPI) -> None:
    @app.post("/login/{user}")
    async def log_in(user: str, response: Response, token: sessions.Token) -> str:
        return await sessions.log_in(response, user, token)

    @app.post("/logout")
    async def log_out(response: Response, token: sessions.Token) -> None:
        await sessions.log_out(response, token)

    @app.get("/who")
    async def me(user: sessions.User) -> str:
        return user


async def test_a_browser_stays_logged_in_until_it_logs_out(client: AsyncClient) -> None:
    token = (await client.post("/login/ada")).json()
    assert (await client.get("/who")).json() == "ada"
    assert (await client.get("/who")).json() == "ada"

    await client.post("/logout")
    assert not client.cookies
    assert (await client.get("/who")).status_code == 401
    client.cookies.set(sessions.COOKIE, token)
    assert (await client.get("/who")).status_code == 401


async def test_scripts_and_other_sites_do_not_get_at_the_cookie(client: AsyncClient) -> None:
    cookie = (await client.post("/login/ada")).headers["set-cookie"]
    name, *attributes = cookie.lower().split("; ")

    assert name.startswith("__host-")
    assert {"httponly", "secure", "samesite=lax", "path=/"} <= set(attributes)
    assert not any(attribute.startswith("domain") for attribute in attributes)


async def test_a_token_is_as_good_in_the_header_as_in_the_cookie(client: AsyncClient) -> None:
    token = (await client.post("/login/ada")).json()
    client.cookies.clear()

    mine = await client.get("/who", headers={"Authorization": f"Bearer {token}"})
    assert mine.json() == "ada"
    await client.post("/login/bob")
    both = await client.get("/who", headers={"Authorization": f"Bearer {token}"})
    assert both.json() == "ada"


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Basic YWRhOng=", "Bearer ä"])
async def test_who_is_not_logged_in_is_told_so(client: AsyncClient, authorization: str) -> None:
    answer = await client.get("/who", headers={b"Authorization": authorization.encode("latin-1")})

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_login_makes_a_token_that_nobody_could_plant(client: AsyncClient) -> None:
    planted = await sessions.create("mallory")
    cookie = {"Cookie": f"{sessions.COOKIE}={planted}"}
    token = (await client.post("/login/ada", headers=cookie)).json()

    assert token != planted
    assert await sessions.get(planted) is None
    assert await sessions.get(token) == "ada"
    assert (await client.get("/who")).json() == "ada"


async def test_the_store_reveals_no_token(attached: Settings) -> None:
    token = await sessions.create("ada")

    async with redis.commands() as client:
        keys = await client.keys("*")
        values = [await client.get(key) for key in await client.keys("session:*")]
    assert values
    assert token not in str([keys, values])


async def test_a_session_goes_on_while_it_is_used_and_ends_when_it_is_not(
    attached: Settings,
) -> None:
    token = await sessions.create("ada")
    key = sessions._name(token)
    async with redis.commands() as client:
        assert 10 < await client.ttl(key) <= sessions.IDLE_SECONDS
        await client.expire(key, 10)
    assert await sessions.get(token) == "ada"
    async with redis.commands() as client:
        assert 10 < await client.ttl(key) <= sessions.IDLE_SECONDS
        await client.expire(key, 0)
    assert await sessions.get(token) is None


async def test_a_session_ends_for_good_however_much_it_is_used(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_SECONDS", 0)
    token = await sessions.create("ada")

    assert await sessions.get(token) is None


async def test_a_hung_redis_stops_neither_other_requests_nor_sigterm(
    environment: dict[str, str],
    attached: Settings,
    monkeypatch: pytest.MonkeyPatch,
    start: Start,
) -> None:
    monkeypatch.setitem(COMMANDS, "web", [sys.executable, "-c", PROCESS])
    port = free_port()
    bearer = {"Authorization": f"Bearer {await sessions.create('ada')}"}
    async with (
        pipe(environment["REDIS_URL"]) as between,
        AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        own = {"REDIS_URL": between.url, "REDIS_TIMEOUT_SECONDS": "1", "PORT": str(port)}
        process = start("web", environment | own)
        await asyncio.to_thread(process.event, "web.listening")

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(ready)
        assert (await client.get("/who", headers=bearer)).json() == "ada"

        between.hang()
        waiting = asyncio.create_task(client.get("/who", headers=bearer))
        await between.holding.wait()
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert await asyncio.to_thread(process.stop) == 0
        answer = await waiting

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "redis" in answer.json()["detail"]
