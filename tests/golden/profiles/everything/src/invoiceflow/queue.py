"""The job queue, for those who write jobs: `@job()`, `enqueue`, `schedule`.

A job runs at least once: again after an error, or when its worker died. What it does twice
must count once.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import structlog

from . import heartbeat, resources, runner
from .config import Settings
from .outbox import Job

__all__ = ["Job", "job", "schedule", "work"]

P = ParamSpec("P")

COUNT_SECONDS = 60
STOP_SECONDS = 3  # for what follows the grace: giving jobs back, closing connections

log = structlog.get_logger()


def job(
    *, attempts: int = 10, seconds: float = 60
) -> Callable[[Callable[P, Awaitable[None]]], Job[P]]:
    """Make a job of an async function whose arguments are plain JSON values.

    attempts: how often it is tried before it becomes a dead letter.
    seconds: how long one attempt may take.
    """

    def register(function: Callable[P, Awaitable[None]]) -> Job[P]:
        made = Job(function, attempts, seconds)
        if made.name in runner.TASKS:
            raise ValueError(f"two jobs are called {made.name}")
        runner.TASKS[made.name] = made
        return made

    return register


def schedule(cron: str, job: Job[[]]) -> None:
    """Put a job on the queue at the times of a cron expression (UTC), once for each time."""
    runner.TICKS.append(runner.Tick(cron, job))


def work(settings: Settings, serve: runner.Serve, depth: runner.Count | None = None) -> int:
    """Serve until SIGTERM; then finish the jobs in hand, or give them back.

    depth: counts what waits, for the log.
    """
    with asyncio.Runner() as running:
        return running.run(_work(settings, serve, depth))


async def _work(settings: Settings, serve: runner.Serve, depth: runner.Count | None) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with resources.attach(settings), heartbeat.beating(settings):
        counting = asyncio.create_task(_count(settings, depth)) if depth else None
        serving = asyncio.create_task(serve(settings, stopping))
        await runner.first(serving, stopping)
        log.info("worker.stopping")
        if counting:
            counting.cancel()
        _, hung = await asyncio.wait([serving], timeout=settings.grace_seconds + STOP_SECONDS)
        if hung:
            log.error("worker.killed", hint="Its jobs are given to others once it counts as dead.")
            os._exit(1)
    serving.result()
    log.info("worker.stopped")
    return 0


async def _count(settings: Settings, depth: runner.Count) -> None:
    """Say how long the queue is, now and then."""
    while True:
        await asyncio.sleep(COUNT_SECONDS)
        try:
            log.info("queue.depth", **(await depth(settings))._asdict())
        except Exception as error:  # whatever the driver raises: it is counted again
            log.warning("queue.uncounted", reason=str(error) or type(error).__name__)
