"""An invoice as a PDF in object storage, written by a worker: the same bytes however often."""

import re
import textwrap
import uuid
from collections.abc import AsyncIterator

import structlog

from .. import s3
from ..postgres import transaction
from ..queue import job
from .store import Invoice

COLUMNS = 70  # of text on a page

log = structlog.get_logger()


@job()
async def write(invoice_id: str) -> None:
    """Put the invoice's document where `key` says."""
    async with transaction() as session:
        invoice = await session.get_one(Invoice, uuid.UUID(invoice_id))
    await s3.put(key(invoice.id), _whole(page(describe(invoice))), "application/pdf")
    log.info("document.written", invoice_id=invoice_id)


def key(invoice_id: uuid.UUID) -> str:
    return f"invoices/{invoice_id}.pdf"


def describe(invoice: Invoice) -> list[str]:
    """What never changes of an invoice: a document says nothing that may be outdated."""
    units, cents = divmod(invoice.amount_cents, 100)
    return [
        f"Invoice {invoice.id}",
        f"of {invoice.created_at:%Y-%m-%d}",
        "",
        *textwrap.wrap(f"To: {invoice.customer}", COLUMNS),
        f"Amount: {units}.{cents:02}",
        f"Due on: {invoice.due_on}",
    ]


def page(lines: list[str]) -> bytes:
    """A PDF of one A4 page; its font is every reader's own, and shows western letters only."""
    texts = [re.sub(rb"([\\()])", rb"\\\1", line.encode("cp1252", "replace")) for line in lines]
    shown = b"".join(b"(%s) Tj T*\n" % text for text in texts)
    content = b"BT /F1 12 Tf 18 TL 72 760 Td\n%sET" % shown
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    file = b"%PDF-1.4\n"
    table = b"0000000000 65535 f \n"
    for number, body in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(file)
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = len(objects) + 1
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(file))
    return file + b"xref\n0 %d\n" % size + table + end


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body
