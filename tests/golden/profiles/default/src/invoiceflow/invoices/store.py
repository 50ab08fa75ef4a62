"""Invoices and their payments: tables, and what may happen to them. Knows no framework."""

import uuid
from datetime import date, datetime
from typing import Literal

from sqlalchemy import ForeignKey, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TIMESTAMP, String

from ..postgres import Base

Status = Literal["open", "overdue", "paid"]


class Invoice(Base):
    __tablename__ = "invoices"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    customer: Mapped[str]
    amount_cents: Mapped[int]
    due_on: Mapped[date] = mapped_column(index=True)
    status: Mapped[Status] = mapped_column(String, server_default="open")
    created_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.now()
    )


class Payment(Base):
    """A payment as its provider announced it, under the provider's id of the event."""

    __tablename__ = "payments"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    invoice_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    settled_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))


async def create(
    session: AsyncSession, *, customer: str, amount_cents: int, due_on: date
) -> Invoice:
    values = {"customer": customer, "amount_cents": amount_cents, "due_on": due_on}
    return (await session.scalars(insert(Invoice).values(values).returning(Invoice))).one()


async def get(session: AsyncSession, invoice_id: uuid.UUID) -> Invoice | None:
    return await session.get(Invoice, invoice_id)


async def newest(session: AsyncSession, *, limit: int) -> list[Invoice]:
    query = select(Invoice).order_by(Invoice.created_at.desc()).limit(limit)
    return list(await session.scalars(query))


async def record_payment(session: AsyncSession, *, event_id: str, invoice_id: uuid.UUID) -> bool:
    """Keep a payment; False if this event is known already."""
    statement = upsert(Payment).values(event_id=event_id, invoice_id=invoice_id)
    recorded = await session.scalars(statement.on_conflict_do_nothing().returning(Payment.event_id))
    return recorded.first() is not None


async def settle(session: AsyncSession, *, event_id: str) -> bool:
    """Mark the invoice of a payment as paid; False if that payment was settled before."""
    payment = await session.scalars(
        update(Payment)
        .where(Payment.event_id == event_id, Payment.settled_at.is_(None))
        .values(settled_at=func.now())
        .returning(Payment.invoice_id)
    )
    invoice_id = payment.first()
    if invoice_id is None:
        return False
    await session.execute(update(Invoice).where(Invoice.id == invoice_id).values(status="paid"))
    return True


async def mark_overdue(session: AsyncSession) -> int:
    """Mark open invoices whose day has passed; returns how many."""
    overdue = await session.scalars(
        update(Invoice)
        .where(Invoice.status == "open", Invoice.due_on < func.current_date())
        .values(status="overdue")
        .returning(Invoice.id)
    )
    return len(overdue.all())
