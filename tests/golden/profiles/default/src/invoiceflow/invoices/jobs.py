"""What workers do for invoices."""

import structlog

from ..postgres import transaction
from ..queue import job
from . import store

log = structlog.get_logger()


@job()
async def settle(event_id: str) -> None:
    """Settle a payment; a second delivery finds it settled and changes nothing."""
    async with transaction() as session:
        first = await store.settle(session, event_id=event_id)
    log.info("invoice.settled" if first else "invoice.settled_before", event_id=event_id)
