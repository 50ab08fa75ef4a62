"""Chapter: a day begins, for two clocks at once, and who has not paid is reminded."""

from tests.conformance.platform import Client
from tests.invoices.story_2_invoices import new

MORNING = """
from {package}.invoices import dunning
from {package}.postgres import transaction

async def begin():
    for _ in range(2):
        async with transaction() as session:
            await dunning.remind_overdue.enqueue(session)

run(begin())
"""


async def tell(client: Client) -> None:
    invoice = (await client.ask(201, "POST", "/invoices", json=new("Ada"))).json()["id"]
    await client.console(MORNING.format(package=client.package))
    await client.disturb()
    await client.until(200, f"/invoices/{invoice}", '"overdue"')
    await client.ask(200, "GET", f"/invoices/{invoice}")
