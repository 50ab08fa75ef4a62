import asyncio
import re
import uuid
from collections.abc import AsyncIterator

import pytest
from httpx2 import ASGITransport, AsyncClient, Response

from invoiceflow import queue_rabbitmq, web
from invoiceflow.config import Settings
from invoiceflow.invoices import pdf

from tests.queueing import working
from tests.running import until

NEW = {"customer": "Ada (née Byron) \\", "amount_cents": 120005, "due_on": "2030-01-31"}


@pytest.fixture
async def client(attached: Settings) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(web.create(attached))
    async with AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.fixture
async def document(client: AsyncClient) -> str:
    """Where the document of a new invoice will be."""
    return f"/invoices/{(await client.post('/invoices', json=NEW)).json()['id']}/document"


async def written(client: AsyncClient, document: str) -> Response:
    found = await client.get(document)

    async def is_there() -> bool:
        nonlocal found
        found = await client.get(document)
        return found.status_code != 404

    await until(is_there)
    return found


def shown(file: bytes) -> list[str]:
    """The text on the page, read as a reader does: from the end, by the table of offsets."""
    assert file.startswith(b"%PDF-1.")
    start = re.fullmatch(rb".*\nstartxref\n(\d+)\n%%EOF\n", file, re.DOTALL)
    assert start
    word, numbers, *rows = file[int(start[1]) :].partition(b"trailer")[0].splitlines()
    assert (word, numbers) == (b"xref", b"0 %d" % len(rows))
    assert {len(row) for row in rows} == {19}  # and the line's end: twenty bytes each
    objects = {number: file[int(row[:10]) :] for number, row in enumerate(rows)}
    assert all(objects[number].startswith(b"%d 0 obj\n" % number) for number in objects if number)
    assert b"/Size %d /Root 1 0 R" % len(rows) in file
    assert b"/Contents 4 0 R" in objects[3]
    length = re.match(rb"4 0 obj\n<< /Length (\d+) >>\nstream\n", objects[4])
    assert length
    content = objects[4][length.end() : length.end() + int(length[1])]
    assert objects[4][length.end() + int(length[1]) :].startswith(b"\nendstream\nendobj\n")
    texts = re.findall(rb"\(((?:[^\\()]|\\.)*)\) Tj T\*\n", content)
    assert content.count(b"\n") == len(texts) + 1
    return [re.sub(rb"\\(.)", rb"\1", text).decode("cp1252") for text in texts]


async def test_ten_clicks_make_one_job_which_writes_the_document(
    client: AsyncClient, attached: Settings, document: str
) -> None:
    before = (await queue_rabbitmq.depth(attached)).waiting
    asked = await asyncio.gather(*(client.post(document) for _ in range(10)))
    assert [answer.status_code for answer in asked] == [202] * 10
    assert asked[0].json() == {"document": document}
    assert (await queue_rabbitmq.depth(attached)).waiting == before + 1
    missing = await client.get(document)
    assert (missing.status_code, missing.json()["status"]) == (404, 404)

    async with working(attached):
        found = await written(client, document)
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/pdf"
    assert int(found.headers["content-length"]) == len(found.content)
    number = document.split("/")[2]
    lines = shown(found.content)
    assert lines[0] == f"Invoice {number}"
    assert lines[3:] == ["To: Ada (née Byron) \\", "Amount: 1200.05", "Due on: 2030-01-31"]


async def test_a_document_is_the_same_however_often_it_is_written(
    client: AsyncClient, document: str
) -> None:
    number = document.split("/")[2]
    await pdf.write(number)
    first = (await client.get(document)).content
    await pdf.write(number)
    assert (await client.get(document)).content == first


async def test_an_unknown_invoice_has_no_document(client: AsyncClient) -> None:
    document = f"/invoices/{uuid.uuid4()}/document"
    assert (await client.post(document)).status_code == 404
    assert (await client.get(document)).status_code == 404


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain", "plain"),
        (r"\) Tj (ends) \\", r"\) Tj (ends) \\"),
        ("50 € für Zoë", "50 € für Zoë"),
        ("Ω 漢", "? ?"),
    ],
)
def test_a_page_shows_its_lines_whatever_is_in_them(line: str, expected: str) -> None:
    assert shown(pdf.page(["first", line])) == ["first", expected]


async def test_a_long_name_stays_on_the_page(client: AsyncClient) -> None:
    customer = "Wilhelmina " * 17 + "\n\r" + "W" * 10
    created = (await client.post("/invoices", json=NEW | {"customer": customer})).json()
    await pdf.write(created["id"])
    lines = shown((await client.get(f"/invoices/{created['id']}/document")).content)

    assert " ".join(lines[3:-2]).split() == ["To:", *customer.split()]
    assert max(map(len, lines)) <= pdf.COLUMNS
