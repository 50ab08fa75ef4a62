"""When invoices are looked after (UTC)."""

from .. import queue
from . import jobs

queue.schedule("5 0 * * *", jobs.mark_overdue)
