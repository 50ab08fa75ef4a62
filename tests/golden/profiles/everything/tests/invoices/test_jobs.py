import uuid
from datetime import date, timedelta

import pytest

from invoiceflow import postgres
from invoiceflow.config import Settings
from invoiceflow.invoices import jobs, store


async def new_invoice(due_on: date) -> uuid.UUID:
    async with postgres.transaction() as session:
        return (await store.create(session, customer="Ada", amount_cents=1, due_on=due_on)).id


async def status(invoice_id: uuid.UUID) -> str:
    async with postgres.transaction() as session:
        invoice = await store.get(session, invoice_id)
        assert invoice
        return invoice.status


async def test_a_payment_settles_its_invoice_however_often_the_job_runs(attached: Settings) -> None:
    invoice_id, event_id = await new_invoice(date(2030, 1, 1)), uuid.uuid4().hex
    async with postgres.transaction() as session:
        assert await store.record_payment(session, event_id=event_id, invoice_id=invoice_id)
        assert not await store.record_payment(session, event_id=event_id, invoice_id=invoice_id)

    await jobs.settle(event_id)
    async with postgres.transaction() as session:
        assert not await store.settle(session, event_id=event_id)
    assert await status(invoice_id) == "paid"


@pytest.mark.parametrize(("days", "expected"), [(-1, "overdue"), (1, "open")])
async def test_an_open_invoice_is_overdue_after_its_day(
    attached: Settings, days: int, expected: str
) -> None:
    invoice_id = await new_invoice(date.today() + timedelta(days=days))

    await jobs.mark_overdue()
    assert await status(invoice_id) == expected
