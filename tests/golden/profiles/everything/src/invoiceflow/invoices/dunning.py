"""What workers do for invoices that nobody pays, when the clock says so."""

import uuid
from datetime import date

import structlog

from ..postgres import transaction
from ..queue import job
from . import reminders, store

BATCH = 100  # reminders a transaction

log = structlog.get_logger()


@job()
async def remind_overdue() -> None:
    """Mark the invoices whose day has passed; of each that is overdue, remind once a day."""
    async with transaction() as session:
        marked = await store.mark_overdue(session)
    log.info("invoices.overdue", marked=marked)
    while True:
        async with transaction() as session:
            new = await reminders.begin(session, limit=BATCH)
            for invoice_id, day in new:
                await remind.enqueue(session, str(invoice_id), day.isoformat())
        if not new:
            return


@job()
async def remind(invoice_id: str, day: str) -> None:
    """Send a reminder; one that was sent is not sent again."""
    async with transaction() as session:
        if await reminders.send(
            session, invoice_id=uuid.UUID(invoice_id), day=date.fromisoformat(day)
        ):
            # Your mail, before the commit: a crash between the two sends it again, not never.
            log.info("reminder.sent", invoice_id=invoice_id, day=day)
