"""The depth of the queue as metrics: counted when they are asked for."""

import asyncio

import structlog
from prometheus_client import Gauge

from . import queue_rabbitmq
from .config import Settings

SECONDS = 2

waiting = Gauge("queue_jobs_waiting", "Jobs that wait to be run, on all replicas' behalf")
dead = Gauge("queue_jobs_dead", "Jobs that failed for good: see the process deadletters")


async def measure(settings: Settings) -> None:
    """Count anew; both are NaN when the broker gives no answer."""
    depth = float("nan"), float("nan")
    try:
        async with asyncio.timeout(SECONDS):
            depth = await queue_rabbitmq.depth(settings)
    except Exception as error:  # whatever the driver raises: the other metrics count too
        structlog.get_logger().warning("queue.uncounted", reason=str(error) or type(error).__name__)
    waiting.set(depth[0])
    dead.set(depth[1])
