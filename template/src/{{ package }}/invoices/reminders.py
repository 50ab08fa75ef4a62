"""Reminders of overdue invoices, one a day: table, and what may happen to them."""

import uuid
from datetime import date, datetime

from sqlalchemy import ForeignKey, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TIMESTAMP

from ..postgres import Base
from .store import Invoice


class Reminder(Base):
    __tablename__ = "reminders"

    invoice_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    sent_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))


async def begin(session: AsyncSession, *, limit: int) -> list[tuple[uuid.UUID, date]]:
    """Note today's reminder of overdue invoices that have none yet; returns the new ones."""
    today = func.current_date()
    noted = exists().where(Reminder.invoice_id == Invoice.id, Reminder.day == today)
    overdue = select(Invoice.id, today).where(Invoice.status == "overdue", ~noted).limit(limit)
    new = await session.execute(
        upsert(Reminder)
        .from_select(["invoice_id", "day"], overdue)
        .on_conflict_do_nothing()
        .returning(Reminder.invoice_id, Reminder.day)
    )
    return [(invoice_id, day) for invoice_id, day in new]


async def send(session: AsyncSession, *, invoice_id: uuid.UUID, day: date) -> bool:
    """Mark a reminder as sent; False if it was sent before, or its invoice is paid by now."""
    sent = await session.scalars(
        update(Reminder)
        .where(Reminder.invoice_id == invoice_id, Reminder.day == day, Reminder.sent_at.is_(None))
        .where(Invoice.id == Reminder.invoice_id, Invoice.status == "overdue")
        .values(sent_at=func.now())
        .returning(Reminder.invoice_id)
    )
    return sent.first() is not None
