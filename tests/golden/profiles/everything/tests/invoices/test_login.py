import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import delete, select

from invoiceflow import postgres, web
from invoiceflow.config import Settings
from invoiceflow.invoices import accounts

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def client(attached: Settings) -> AsyncIterator[AsyncClient]:
    # An address of its own: what it is let through is not counted with other tests'.
    transport = ASGITransport(web.create(attached), client=(uuid.uuid4().hex, 1))
    async with AsyncClient(transport=transport, base_url="https://service") as client:
        yield client


@pytest.fixture
async def ada(client: AsyncClient) -> dict[str, str]:
    """The credentials of an account."""
    credentials = {"email": f"ada-{uuid.uuid4()}@example.org", "password": PASSWORD}
    assert (await client.post("/accounts", json=credentials)).status_code == 201
    return credentials


async def test_who_signed_up_logs_in_and_out(client: AsyncClient, ada: dict[str, str]) -> None:
    assert (await client.get("/me")).status_code == 401
    shouted = {"email": f" {ada['email'].upper()} ", "password": PASSWORD}
    token = (await client.post("/login", json=shouted)).json()["token"]
    assert (await client.get("/me")).json()["email"] == ada["email"]

    answer = await client.post("/logout")
    assert answer.status_code == 204
    assert not client.cookies
    with_token = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/me", headers=with_token)).status_code == 401


async def test_a_new_login_ends_the_session_before(
    client: AsyncClient, ada: dict[str, str]
) -> None:
    first, second = [(await client.post("/login", json=ada)).json()["token"] for _ in range(2)]
    client.cookies.clear()

    answers = [
        await client.get("/me", headers={"Authorization": f"Bearer {token}"})
        for token in (first, second)
    ]
    assert [answer.status_code for answer in answers] == [401, 200]


async def test_a_wrong_password_and_an_unknown_account_are_told_the_same(
    client: AsyncClient, ada: dict[str, str]
) -> None:
    wrong = await client.post("/login", json=ada | {"password": "wrong"})
    unknown = await client.post("/login", json=ada | {"email": f"not-{ada['email']}"})

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["detail"] == unknown.json()["detail"]
    assert not client.cookies


async def test_an_unknown_account_takes_as_long_as_a_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = []

    async def scrypt(_: str, __: bytes, *cost: int) -> bytes:
        costs.append(cost)
        return b""

    monkeypatch.setattr(accounts, "_scrypt", scrypt)
    await accounts.fits(PASSWORD, await accounts.hash_password(PASSWORD))
    await accounts.fits(PASSWORD, accounts.NOBODY)
    assert costs == [accounts.COST] * 3


async def test_nobody_has_no_password() -> None:
    assert not await accounts.fits("", accounts.NOBODY)


async def test_two_who_sign_up_at_once_are_one_account(client: AsyncClient) -> None:
    new = {"email": f"{uuid.uuid4()}@example.org", "password": PASSWORD}
    answers = await asyncio.gather(*(client.post("/accounts", json=new) for _ in range(2)))

    assert sorted(answer.status_code for answer in answers) == [201, 409]


async def test_the_eleventh_try_in_a_minute_is_refused_even_if_it_is_right(
    client: AsyncClient, ada: dict[str, str]
) -> None:
    wrong = ada | {"password": "wrong"}
    tries = [(await client.post("/login", json=wrong)).status_code for _ in range(9)]
    assert tries == [401] * 9  # after the fixture's own

    refused = await client.post("/login", json=ada)
    assert refused.status_code == 429
    assert refused.headers["retry-after"]


async def test_no_password_is_kept(client: AsyncClient, ada: dict[str, str]) -> None:
    async with postgres.transaction() as session:
        query = select(accounts.Account.password_hash)
        kept = await session.scalar(query.where(accounts.Account.email == ada["email"]))
    assert kept
    assert PASSWORD not in kept
    assert kept != await accounts.hash_password(PASSWORD)
    assert await accounts.fits(PASSWORD, kept)


async def test_other_requests_do_not_wait_for_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "COST", (2**17, 8, 1))
    hashing = asyncio.create_task(accounts.hash_password(PASSWORD))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 2


async def test_a_session_of_an_account_that_is_gone_is_none(
    client: AsyncClient, ada: dict[str, str]
) -> None:
    await client.post("/login", json=ada)
    async with postgres.transaction() as session:
        await session.execute(
            delete(accounts.Account).where(accounts.Account.email == ada["email"])
        )
    assert (await client.get("/me")).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": "nobody"},
        {"email": "a@b@c"},
        {"email": "a@b\x00"},
        {"email": f"{'a' * 250}@b.cd"},
        {"password": "short"},
        {"password": "x" * 201},
    ],
)
async def test_an_account_that_makes_no_sense_is_refused_and_its_password_not_repeated(
    client: AsyncClient, wrong: dict[str, str]
) -> None:
    new = {"email": "ada@example.org", "password": PASSWORD} | wrong
    answer = await client.post("/accounts", json=new)

    assert answer.status_code == 422
    assert new["password"] not in answer.text
