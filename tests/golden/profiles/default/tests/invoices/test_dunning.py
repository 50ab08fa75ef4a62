import asyncio
import uuid
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs
from structlog.typing import EventDict

from invoiceflow import postgres, resources, runner
from invoiceflow.config import Settings
from invoiceflow.invoices import dunning, jobs, reminders, store

from tests.queueing import working
from tests.running import until


async def new_invoice(due_on: date = date(2020, 1, 1)) -> uuid.UUID:
    async with postgres.transaction() as session:
        return (await store.create(session, customer="Ada", amount_cents=1, due_on=due_on)).id


async def today() -> date:
    async with postgres.transaction() as session:
        return (await session.execute(select(func.current_date()))).scalar_one()


async def status(invoice_id: uuid.UUID) -> str:
    async with postgres.transaction() as session:
        invoice = await store.get(session, invoice_id)
        assert invoice
        return invoice.status


async def pay(invoice_id: uuid.UUID) -> None:
    event_id = uuid.uuid4().hex
    async with postgres.transaction() as session:
        await store.record_payment(session, event_id=event_id, invoice_id=invoice_id)
    await jobs.settle(event_id)


def sent(lines: list[EventDict], *invoice_ids: uuid.UUID) -> list[str]:
    """Whom a reminder was sent for, of these."""
    reminded = [line["invoice_id"] for line in lines if line["event"] == "reminder.sent"]
    return sorted(one for one in reminded if uuid.UUID(one) in invoice_ids)


@pytest.mark.parametrize(("days", "expected"), [(-1, "overdue"), (0, "open")])
async def test_an_open_invoice_is_overdue_after_its_day(
    attached: Settings, days: int, expected: str
) -> None:
    invoice_id = await new_invoice(await today() + timedelta(days=days))

    await dunning.remind_overdue()
    assert await status(invoice_id) == expected


async def test_one_run_reminds_of_all_however_many(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dunning, "BATCH", 2)
    overdue = [await new_invoice() for _ in range(5)]
    await dunning.remind_overdue()
    query = select(func.count()).where(reminders.Reminder.invoice_id.in_(overdue))
    async with postgres.transaction() as session:
        assert await session.scalar(query) == 5


async def test_a_schedule_that_runs_twice_at_once_and_again_reminds_once(
    attached: Settings,
) -> None:
    overdue = [await new_invoice() for _ in range(5)]
    await asyncio.gather(dunning.remind_overdue(), dunning.remind_overdue())
    await dunning.remind_overdue()
    last = await new_invoice()
    await dunning.remind_overdue()

    with capture_logs() as lines:
        async with working(attached):
            await until(lambda: sent(lines, last))
            await until(lambda: len(sent(lines, *overdue)) >= 5)
    assert sent(lines, *overdue) == sorted(map(str, overdue))


async def test_a_job_that_runs_twice_reminds_once_and_of_no_paid_invoice(
    attached: Settings,
) -> None:
    overdue, paid = await new_invoice(), await new_invoice()
    await dunning.remind_overdue()
    await pay(paid)

    day = (await today()).isoformat()
    with capture_logs() as lines:
        for invoice_id in (overdue, overdue, paid):
            await dunning.remind(str(invoice_id), day)
    assert sent(lines, overdue, paid) == [str(overdue)]


async def test_a_day_later_it_reminds_again(attached: Settings) -> None:
    overdue = await new_invoice()
    async with postgres.transaction() as session:
        yesterday = await today() - timedelta(days=1)
        session.add(reminders.Reminder(invoice_id=overdue, day=yesterday))
    await dunning.remind_overdue()

    with capture_logs() as lines:
        await dunning.remind(str(overdue), (await today()).isoformat())
    assert sent(lines, overdue) == [str(overdue)]


async def test_the_schedule_looks_after_what_is_overdue(attached: Settings) -> None:
    resources.load(["invoices.schedule"])
    invoice_id = await new_invoice()
    for tick in runner.TICKS:
        if tick.task.name.startswith("invoices."):
            await tick.task()
    assert await status(invoice_id) == "overdue"
