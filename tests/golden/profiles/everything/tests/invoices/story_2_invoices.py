"""Chapter: a customer is billed."""

from typing import Any

from tests.conformance.platform import Client

TOUCH: list[tuple[str, str, dict[str, Any]]] = [("GET", "/invoices?limit=1", {})]


def new(customer: str) -> dict[str, object]:
    return {"customer": customer, "amount_cents": 1200, "due_on": "2020-01-31"}


async def tell(client: Client) -> None:
    for customer in ("Ada", "Grace", "Ada"):
        invoice = (await client.ask(201, "POST", "/invoices", json=new(customer))).json()["id"]
    await client.disturb()
    for _ in range(3):
        await client.ask(200, "GET", f"/invoices/{invoice}")
    await client.ask(200, "GET", "/invoices?limit=1")
    await client.ask(422, "POST", "/invoices", json=new(""))


async def write(client: Client, name: str) -> None:
    await client.ask(201, "POST", "/invoices", json=new(name))


async def written(client: Client) -> list[str]:
    """The names that were written, each as often as it was."""
    found = (await client.ask(200, "GET", "/invoices?limit=100")).json()
    return [one["customer"] for one in found]
