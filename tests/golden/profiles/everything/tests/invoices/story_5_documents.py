"""Chapter: an invoice is printed: a worker writes the document, the API streams it."""

from tests.conformance.platform import Client
from tests.invoices.story_2_invoices import new


async def tell(client: Client) -> None:
    invoice = (await client.ask(201, "POST", "/invoices", json=new("Ada"))).json()["id"]
    document = f"/invoices/{invoice}/document"
    await client.ask(404, "GET", document)
    await client.ask(202, "POST", document)
    await client.disturb()
    await client.until(200, document, "%PDF")
    for _ in range(3):
        await client.ask(200, "GET", document)
