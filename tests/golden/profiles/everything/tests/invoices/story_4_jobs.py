"""Chapter of a service without an API: a payment is recorded, and a worker settles it."""

import json

from tests.conformance.platform import Client, until

ENQUEUE = """
import datetime, json, uuid
from {package}.invoices import jobs, store
from {package}.postgres import transaction

async def enqueue():
    events = [uuid.uuid4().hex for _ in range({number})]
    async with transaction() as session:
        for event in events:
            day = datetime.date(2020, 1, 31)
            new = await store.create(session, customer="Ada", amount_cents=1200, due_on=day)
            await store.record_payment(session, event_id=event, invoice_id=new.id)
            await jobs.settle.enqueue(session, event)
    return events

print(json.dumps(run(enqueue())))
"""
SETTLED = """
import json
from sqlalchemy import select
from {package}.invoices.store import Payment
from {package}.postgres import transaction

async def settled():
    async with transaction() as session:
        query = select(Payment.event_id).where(Payment.settled_at.is_not(None))
        return list(await session.scalars(query))

print(json.dumps(run(settled())))
"""


async def tell(client: Client) -> None:
    if "web" in client.deploy.commands:
        return
    about = await enqueue(client, 2)
    await client.disturb()
    await until(lambda: done(client, about), "two payments are settled")
    client.transcript.append("settled")


async def enqueue(client: Client, number: int) -> list[str]:
    """Ask for so many jobs; what they are about."""
    said = await client.console(ENQUEUE.format(package=client.package, number=number))
    return list(json.loads(said.splitlines()[-1]))


async def done(client: Client, about: list[str]) -> bool:
    """Whether every one of these jobs has had its effect."""
    said = await client.console(SETTLED.format(package=client.package))
    return set(about) <= set(json.loads(said.splitlines()[-1]))
