"""The job queue: in PostgreSQL, so that a job comes with the change that asks for it or not at all.

A job runs at least once: again after an error, or when its worker died. What it does twice
must count once.
"""

import asyncio
import inspect
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, ParamSpec

import procrastinate
import structlog
from procrastinate import exceptions, jobs, retry, tasks
from procrastinate.worker import Worker
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncSession

from . import resources
from .config import Settings
from .postgres import KEEPALIVE

P = ParamSpec("P")

RESCUE_EVERY = "* * * * *"  # cron
POLL_SECONDS = 2  # retries and late jobs are found by polling; new jobs announce themselves
STOP_SECONDS = 3  # for what follows the grace: giving jobs back, closing connections

app = procrastinate.App(connector=procrastinate.PsycopgConnector())
log = structlog.get_logger()


class Backoff(retry.BaseRetryStrategy):
    """Try again after 1, 2, 4 ... seconds, at most 10 minutes, none at the same moment."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def get_retry_decision(
        self, *, exception: BaseException, job: jobs.Job
    ) -> procrastinate.RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            return procrastinate.RetryDecision(retry_at=datetime.now(UTC))  # its worker stops
        if job.attempts + 1 >= self.attempts:
            return None
        return procrastinate.RetryDecision(retry_at=later(job.attempts))


def later(attempts: int) -> datetime:
    """When to try again after so many attempts."""
    seconds = min(600, 2**attempts)
    return datetime.now(UTC) + timedelta(seconds=seconds * random.uniform(0.5, 1.5))  # noqa: S311


@dataclass(frozen=True)
class Job(Generic[P]):
    """A function that a worker runs; call it to run it here."""

    function: Callable[P, Awaitable[None]]
    task: tasks.Task[Any, Any, Any]

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        await self.function(*args, **kwargs)

    async def enqueue(self, session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs) -> int:
        """Put the job on the queue when the session's transaction commits; returns its id."""
        arguments = inspect.signature(self.function).bind(*args, **kwargs).arguments
        context = structlog.contextvars.get_contextvars()
        connection = await (await session.connection()).get_raw_connection()
        if not isinstance(connection.driver_connection, AsyncConnection):
            raise TypeError("the queue joins transactions of psycopg only")
        return await self.task.configure(connection=connection.driver_connection).defer_async(
            arguments=arguments, request_id=context.get("request_id")
        )


def job(
    *, attempts: int = 10, seconds: float = 60
) -> Callable[[Callable[P, Awaitable[None]]], Job[P]]:
    """Make a job of an async function whose arguments are plain JSON values.

    attempts: how often it is tried before it counts as failed and is kept for inspection.
    seconds: how long one attempt may take.
    """

    def register(function: Callable[P, Awaitable[None]]) -> Job[P]:
        name = f"{function.__module__.partition('.')[2]}.{function.__name__}"

        async def run(
            context: procrastinate.JobContext,
            *,
            arguments: dict[str, Any],
            request_id: str | None = None,
            timestamp: int | None = None,
        ) -> None:
            attempt = context.job.attempts + 1
            structlog.contextvars.bind_contextvars(
                request_id=request_id, job=name, job_id=context.job.id, attempt=attempt
            )
            started = time.perf_counter()
            log.info("job.started")
            try:
                async with asyncio.timeout(seconds):
                    await function(**arguments)  # type: ignore[call-arg]  # bound when enqueued
            except asyncio.CancelledError:
                log.warning("job.returned", reason="the worker stops")
                raise
            except Exception:
                log.exception("job.failed" if attempt >= attempts else "job.retried")
                raise
            log.info("job.done", duration_ms=round((time.perf_counter() - started) * 1000, 1))

        task = app.task(name=name, pass_context=True, retry=Backoff(attempts))(run)
        return Job(function, task)

    return register


def schedule(cron: str, job: Job[[]]) -> None:
    """Put a job on the queue at the times of a cron expression (UTC), once for each time."""
    app.periodic_registry.register_task(
        task=job.task,
        cron=cron,
        periodic_id=cron,
        configure_kwargs={"task_kwargs": {"arguments": {}}},
    )


@app.periodic(cron=RESCUE_EVERY)
@app.task(
    name="queue.rescue",
    queue="maintenance",
    queueing_lock="queue.rescue",
    priority=1000,  # ahead of any backlog
    pass_context=True,
)
async def rescue(context: procrastinate.JobContext, timestamp: int) -> None:
    """Give the jobs of dead workers to others; one that keeps killing its worker fails."""
    silence = (context.additional_context or {})["stalled_seconds"]
    for stalled in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=silence):
        strategy = getattr(app.tasks.get(stalled.task_name), "retry_strategy", None)
        attempts = strategy.attempts if isinstance(strategy, Backoff) else 10
        again = stalled.attempts + 1 < attempts
        try:
            if again:
                # Behind its neighbours, lest it kill the next worker before they are done.
                await app.job_manager.retry_job(
                    stalled, retry_at=later(stalled.attempts), priority=stalled.priority - 1
                )
            else:
                await app.job_manager.finish_job(stalled, jobs.Status.FAILED, delete_job=False)
        except exceptions.ConnectorException:
            continue  # it ended after all
        event = "job.rescued" if again else "job.failed"
        log.warning(event, job=stalled.task_name, job_id=stalled.id)


def work(settings: Settings, queues: list[str]) -> int:
    """Take jobs until SIGTERM; then finish those in hand, or give them back."""
    logging.getLogger("procrastinate.worker").addFilter(
        lambda record: getattr(record, "action", None) != "job_error"  # job.failed says it
    )
    with asyncio.Runner() as runner:
        return runner.run(_work(settings, queues))


async def _work(settings: Settings, queues: list[str]) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with resources.attach(settings):
        serving = asyncio.create_task(serve(settings, queues, stopping))
        await _first(serving, stopping)
        log.info("worker.stopping")
        _, hung = await asyncio.wait([serving], timeout=settings.grace_seconds + STOP_SECONDS)
        if hung:
            log.error("worker.killed", hint="Its jobs are given to others once it counts as dead.")
            os._exit(1)
    serving.result()
    log.info("worker.stopped")
    return 0


async def serve(settings: Settings, queues: list[str], stopping: asyncio.Event) -> None:
    """Work until told to stop; when the database goes away, wait for it and go on.

    Nothing here is cancelled once it speaks to the database: a cancellation can get lost there.
    """
    while not stopping.is_set():
        reaching = asyncio.create_task(resources.reached())
        await _first(reaching, stopping)
        if stopping.is_set():
            reaching.cancel()
            return
        connector = procrastinate.PsycopgConnector(
            conninfo=settings.database_url.get_secret_value(),
            kwargs=KEEPALIVE,
            min_size=1,
            max_size=settings.database_pool_size,
        )
        try:
            with app.replace_connector(connector):
                async with app.open_async():
                    worker = Worker(
                        app,
                        additional_context={"stalled_seconds": settings.worker_stalled_seconds},
                        concurrency=settings.worker_concurrency,
                        delete_jobs=jobs.DeleteJobCondition.SUCCESSFUL,
                        fetch_job_polling_interval=POLL_SECONDS,
                        install_signal_handlers=False,
                        queues=queues or None,
                        shutdown_graceful_timeout=settings.grace_seconds,
                        stalled_worker_timeout=settings.worker_stalled_seconds,
                        update_heartbeat_interval=settings.worker_stalled_seconds / 3,
                    )
                    working = asyncio.create_task(worker.run())  # type: ignore[no-untyped-call]
                    log.info("worker.started", queues=queues or ["all"])
                    await _first(working, stopping)
                    worker.stop()  # type: ignore[no-untyped-call]
                    await working
        except Exception as error:  # the driver's, the pool's and the library's alike
            log.warning("worker.interrupted", reason=str(error) or type(error).__name__)


async def _first(task: asyncio.Task[None], stopping: asyncio.Event) -> None:
    """Wait for the end of the task or for the word to stop."""
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
