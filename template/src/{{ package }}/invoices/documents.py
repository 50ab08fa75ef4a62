"""An invoice's document through the API: asked for, written by a worker, streamed from storage."""

import uuid

from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from .. import s3
from ..postgres import transaction
from . import pdf, store

router = APIRouter(prefix="/invoices", tags=["documents"])


class Asked(BaseModel):
    document: str
    """Where it is, before long."""


@router.post("/{invoice_id}/document", status_code=202)
async def ask(invoice_id: uuid.UUID) -> Asked:
    async with transaction() as session:
        if await store.get(session, invoice_id) is None:
            raise HTTPException(404, "There is no invoice of this id.")
        await pdf.write.once(str(invoice_id)).enqueue(session, str(invoice_id))
    return Asked(document=f"{router.prefix}/{invoice_id}/document")


@router.get("/{invoice_id}/document", responses={200: {"content": {"application/pdf": {}}}})
async def get(invoice_id: uuid.UUID) -> StreamingResponse:
    try:
        found = await s3.get(pdf.key(invoice_id))
    except s3.NotFound:
        raise HTTPException(404, "There is no document yet: POST here asks for it.") from None
    headers = {
        "Content-Disposition": f'inline; filename="invoice-{invoice_id}.pdf"',
        "Content-Length": str(found.size),
    }
    return StreamingResponse(found.blocks, headers=headers, media_type="application/pdf")
