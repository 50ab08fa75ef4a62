"""Chapter: the payment provider tells of a payment, more than once, and a worker settles it."""

import asyncio
import hashlib
import hmac
import json
import time
import uuid

from tests.conformance.platform import Client
from tests.invoices.story_2_invoices import new


def signed(client: Client, body: bytes) -> dict[str, str]:
    stamp = str(int(time.time()))
    secret = client.environment["WEBHOOK_SECRET"].encode()
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"Signature": f"t={stamp},v1={digest}"}


def event(invoice: str) -> bytes:
    """What the provider sends."""
    id = uuid.uuid4().hex
    return json.dumps({"id": id, "type": "payment.succeeded", "invoice": invoice}).encode()


async def deliver(client: Client, body: bytes) -> None:
    headers = signed(client, body)
    await client.ask(202, "POST", "/webhooks/payments", content=body, headers=headers)


async def tell(client: Client) -> None:
    invoice = (await client.ask(201, "POST", "/invoices", json=new("Ada"))).json()["id"]
    await client.ask(401, "POST", "/webhooks/payments", json={})
    body = event(invoice)
    for _ in range(4):
        await deliver(client, body)
    await client.disturb()
    await client.until(200, f"/invoices/{invoice}", '"paid"')
    for _ in range(3):
        await client.ask(200, "GET", f"/invoices/{invoice}")
    await client.ask(200, "GET", "/invoices?limit=1")


async def enqueue(client: Client, number: int) -> list[str]:
    """Ask for so many jobs; what they are about."""
    invoices = []
    for index in range(number):
        one = await client.ask(201, "POST", "/invoices", json=new(f"Customer {index}"))
        invoices.append(one.json()["id"])
    await asyncio.gather(*(deliver(client, event(invoice)) for invoice in invoices))
    return invoices


async def repeat(client: Client, times: int) -> list[str]:
    """Ask for one job so many times at once; what it is about."""
    invoice = (await client.ask(201, "POST", "/invoices", json=new("Ada"))).json()["id"]
    body = event(invoice)
    await asyncio.gather(*(deliver(client, body) for _ in range(times)))
    return [invoice]


async def done(client: Client, about: list[str]) -> bool:
    """Whether every one of these jobs has had its effect."""
    for invoice in about:
        found = await client.ask(200, "GET", f"/invoices/{invoice}")
        if found.json()["status"] != "paid":
            return False
    return True
