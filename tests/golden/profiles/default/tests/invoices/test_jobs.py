import asyncio
import uuid
from datetime import date

from invoiceflow import postgres
from invoiceflow.config import Settings
from invoiceflow.invoices import jobs, store

from tests.running import COMMANDS, Start


async def new_invoice(due_on: date) -> uuid.UUID:
    async with postgres.transaction() as session:
        return (await store.create(session, customer="Ada", amount_cents=1, due_on=due_on)).id


async def status(invoice_id: uuid.UUID) -> str:
    async with postgres.transaction() as session:
        invoice = await store.get(session, invoice_id)
        assert invoice
        return invoice.status


async def test_a_payment_settles_its_invoice_however_often_the_job_runs(attached: Settings) -> None:
    invoice_id, event_id = await new_invoice(date(2020, 1, 1)), uuid.uuid4().hex
    other_id = await new_invoice(date(2020, 1, 1))
    async with postgres.transaction() as session:
        await store.mark_overdue(session)
        assert await store.record_payment(session, event_id=event_id, invoice_id=invoice_id)
        assert not await store.record_payment(session, event_id=event_id, invoice_id=invoice_id)

    await jobs.settle(event_id)
    async with postgres.transaction() as session:
        assert not await store.settle(session, event_id=event_id)
        await store.mark_overdue(session)
    assert await status(invoice_id) == "paid"
    assert await status(other_id) == "overdue"


async def test_a_worker_takes_the_job_and_a_clock_leaves_it(
    attached: Settings, environment: dict[str, str], start: Start
) -> None:
    for other in sorted({"clock", "relay"} & COMMANDS.keys()):
        process = start(other, environment)
        await asyncio.to_thread(process.event, "resources.reached")
    invoice_id, event_id = await new_invoice(date(2030, 1, 1)), uuid.uuid4().hex
    async with postgres.transaction() as session:
        await store.record_payment(session, event_id=event_id, invoice_id=invoice_id)
        await jobs.settle.enqueue(session, event_id)
    worker = start("worker", environment)
    await asyncio.to_thread(worker.event, "invoice.settled", event_id=event_id)

    assert await status(invoice_id) == "paid"
