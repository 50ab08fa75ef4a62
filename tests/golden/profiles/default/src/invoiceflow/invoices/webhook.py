"""The payment provider's webhook: verify, keep, enqueue, answer. A worker does the work.

The provider signs `TIME.BODY` with HMAC-SHA256 and sends `Signature: t=TIME,v1=HEX`, as often as
it takes to be answered with 2xx. An event counts once, however often it is delivered.
"""

import hashlib
import hmac
import time
import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Request
from pydantic import BaseModel, StringConstraints, ValidationError
from sqlalchemy.exc import IntegrityError

from ..config import Settings
from ..postgres import transaction
from . import jobs, store

TOLERANCE_SECONDS = 300  # an older delivery may be a replay

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


class Event(BaseModel):
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
    type: Literal["payment.succeeded"]
    invoice: uuid.UUID


class Accepted(BaseModel):
    event: str
    known: bool


@router.post("/payments", status_code=202)
async def payments(request: Request, signature: Annotated[str, Header()] = "") -> Accepted:
    body = await request.body()
    settings: Settings = request.app.state.settings
    if not verify(settings.webhook_secret.get_secret_value(), signature, body, time.time()):
        raise HTTPException(401, "The signature is not the provider's, or is too old.")
    try:
        event = Event.model_validate_json(body)
    except ValidationError:
        raise HTTPException(422, "The event is not one that this service knows.") from None
    try:
        async with transaction() as session:
            new = await store.record_payment(session, event_id=event.id, invoice_id=event.invoice)
            if new:
                await jobs.settle.enqueue(session, event.id)
    except IntegrityError:
        raise HTTPException(422, "The event is about an invoice that does not exist.") from None
    return Accepted(event=event.id, known=not new)


def sign(secret: str, body: bytes, now: float) -> str:
    """The Signature header for a body."""
    stamp = str(int(now))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def verify(secret: str, signature: str, body: bytes, now: float) -> bool:
    """Whether the provider signed this body, and lately."""
    stamp = signature.removeprefix("t=").partition(",")[0]
    if not (stamp.isascii() and stamp.isdigit()) or abs(now - int(stamp)) > TOLERANCE_SECONDS:
        return False
    return hmac.compare_digest(sign(secret, body, int(stamp)).encode(), signature.encode())
