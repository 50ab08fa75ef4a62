"""The clock of the brokers that have none: it puts jobs on the queue at their times."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from croniter import croniter

from . import outbox, resources, runner
from .config import Settings

MISSED = timedelta(minutes=10)  # a time that no clock saw for longer stays missed
RETRY_SECONDS = 1

log = structlog.get_logger()


async def tick(settings: Settings, stopping: asyncio.Event) -> None:
    """Put jobs on the queue at their times until told to stop."""
    if not await runner.reached(stopping):
        return
    log.info("worker.started", times=[cron for cron, _ in runner.TICKS])
    while not stopping.is_set():
        pause = timedelta(hours=1)
        try:
            for one in runner.TICKS:
                await outbox.due(one, partial(_times, one.cron))
                now = datetime.now(UTC)
                pause = min(pause, croniter(one.cron, now).get_next(datetime) - now)
        except resources.Unavailable as error:
            log.warning("worker.interrupted", reason=str(error))
            pause = timedelta(seconds=RETRY_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await stopping.wait()


def _times(cron: str, last: datetime, now: datetime) -> list[datetime]:
    """The times of a cron expression after the last one that was seen, up to now."""
    times = croniter(cron, max(last, now - MISSED)).all_next(datetime)
    passed = []
    for time_ in times:
        if time_ > now:
            break
        passed.append(time_)
    return passed
