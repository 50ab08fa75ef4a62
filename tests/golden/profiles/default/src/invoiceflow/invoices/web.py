"""Invoices through the API."""

import uuid
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..postgres import transaction
from . import store

router = APIRouter(prefix="/invoices", tags=["invoices"])


class NewInvoice(BaseModel):
    # PostgreSQL keeps no NUL character in a text.
    customer: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    amount_cents: Annotated[int, Field(gt=0, le=2_000_000_000)]
    due_on: date


class Invoice(NewInvoice):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    status: store.Status
    created_at: datetime


@router.post("", status_code=201)
async def create(new: NewInvoice) -> Invoice:
    async with transaction() as session:
        return Invoice.model_validate(await store.create(session, **new.model_dump()))


@router.get("")
async def newest(limit: Annotated[int, Query(ge=1, le=100)] = 50) -> list[Invoice]:
    async with transaction() as session:
        return [Invoice.model_validate(one) for one in await store.newest(session, limit=limit)]


@router.get("/{invoice_id}")
async def get(invoice_id: uuid.UUID) -> Invoice:
    async with transaction() as session:
        invoice = await store.get(session, invoice_id)
    if invoice is None:
        raise HTTPException(404, "There is no invoice of this id.")
    return Invoice.model_validate(invoice)
