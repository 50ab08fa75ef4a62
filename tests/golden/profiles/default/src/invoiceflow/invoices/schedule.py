"""When invoices are looked after (UTC)."""

from .. import queue
from . import dunning

queue.schedule("5 0 * * *", dunning.remind_overdue)
