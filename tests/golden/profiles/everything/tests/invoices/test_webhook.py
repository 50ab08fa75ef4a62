import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date

import pytest
from httpx2 import ASGITransport, AsyncClient, Response
from pydantic import ValidationError

from invoiceflow import postgres, queue_rabbitmq, web
from invoiceflow.config import Settings
from invoiceflow.invoices import jobs, store, webhook
from invoiceflow.resources import Unavailable


@pytest.fixture
async def client(attached: Settings) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(web.create(attached))
    async with AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.fixture
async def event(attached: Settings) -> dict[str, str]:
    async with postgres.transaction() as session:
        new = await store.create(session, customer="Ada", amount_cents=1, due_on=date(2030, 1, 1))
        return {
            "id": f"evt_{uuid.uuid4().hex}",
            "type": "payment.succeeded",
            "invoice": str(new.id),
        }


async def deliver(
    client: AsyncClient, settings: Settings, event: dict[str, str], age: float = 0
) -> Response:
    body = json.dumps(event).encode()
    secret = settings.webhook_secret.get_secret_value()
    signature = webhook.sign(secret, body, time.time() - age)
    return await client.post(
        "/webhooks/payments", content=body, headers={"Signature": signature}, timeout=30
    )


@pytest.fixture
async def new_jobs(attached: Settings) -> Callable[[], Awaitable[int]]:
    """Counts the jobs that wait since the test began; nobody takes one."""

    async def waiting() -> int:
        return (await queue_rabbitmq.depth(attached)).waiting

    before = await waiting()

    async def new() -> int:
        return await waiting() - before

    return new


async def test_one_event_delivered_fifty_times_at_once_is_one_job(
    client: AsyncClient,
    attached: Settings,
    event: dict[str, str],
    new_jobs: Callable[[], Awaitable[int]],
) -> None:
    answers = await asyncio.gather(*(deliver(client, attached, event) for _ in range(50)))

    assert [answer.status_code for answer in answers] == [202] * 50
    assert [answer.json()["known"] for answer in answers].count(False) == 1
    assert await new_jobs() == 1


@pytest.mark.parametrize(
    "forged", ["", "t=,v1=", "t=1,v1=00", "v1=00", "t={now},v1={wrong}", "t=\u00b2,v1=00"]
)
async def test_a_forged_signature_is_refused(
    client: AsyncClient,
    event: dict[str, str],
    new_jobs: Callable[[], Awaitable[int]],
    forged: str,
) -> None:
    signature = forged.format(now=int(time.time()), wrong="0" * 64)
    headers = {b"Signature": signature.encode()}
    answer = await client.post("/webhooks/payments", json=event, headers=headers)

    assert answer.status_code == 401
    assert await new_jobs() == 0


async def test_an_event_is_kept_with_its_job_or_not_at_all(
    client: AsyncClient,
    attached: Settings,
    event: dict[str, str],
    new_jobs: Callable[[], Awaitable[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Down:
        async def enqueue(self, *_: object) -> None:
            raise Unavailable("queue")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "settle", Down())
        assert (await deliver(client, attached, event)).status_code == 503

    assert (await deliver(client, attached, event)).json()["known"] is False
    assert await new_jobs() == 1


def test_the_signature_is_what_the_provider_computes() -> None:
    # printf %s '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac a-secret-of-the-provider
    digest = "cd96ed22c557b767ccff55dfd1012ee293b2e5d2c65352fd93d75924130ad3cf"
    signature = webhook.sign("a-secret-of-the-provider", b'{"id":"evt_1"}', 1_700_000_000)

    assert signature == f"t=1700000000,v1={digest}"


def test_a_secret_that_can_be_guessed_is_refused(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="at least 16"):
        Settings.model_validate(settings.model_dump() | {"webhook_secret": "short"})


@pytest.mark.parametrize("way", [1, -1], ids=["past", "future"])
async def test_a_delivery_of_another_time_is_refused(
    client: AsyncClient, attached: Settings, event: dict[str, str], way: int
) -> None:
    age = way * (webhook.TOLERANCE_SECONDS + 60)

    assert (await deliver(client, attached, event, age)).status_code == 401


@pytest.mark.parametrize(
    "wrong", [{"type": "payment.failed"}, {"id": "a b"}, {"invoice": str(uuid.uuid4())}]
)
async def test_an_event_that_is_not_understood_is_refused(
    client: AsyncClient, attached: Settings, event: dict[str, str], wrong: dict[str, str]
) -> None:
    assert (await deliver(client, attached, event | wrong)).status_code == 422
