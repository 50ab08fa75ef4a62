"""Jobs in PostgreSQL: a job comes with the change that asks for it or not at all."""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import procrastinate
import structlog
from procrastinate import exceptions, jobs, retry
from procrastinate.worker import Worker
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from . import runner
from .config import Settings
from .postgres import KEEPALIVE, driver, transaction
from .runner import DeadLetter, Depth, P, Task

# What is tried again is found by polling; new jobs announce themselves. No longer than the shortest
# delay before another attempt.
POLL_SECONDS = 0.5
NONE = "clock"  # a queue without jobs

# The library's function aborts the caller's transaction if a key is taken.
PUT = """
insert into procrastinate_jobs (queue_name, task_name, queueing_lock, args)
values ('default', %(job)s, %(key)s, %(values)s) on conflict do nothing returning id
"""
# From here on another job may wait under its key, and it can be put back beside that one.
STARTED = "update procrastinate_jobs set queueing_lock = null where id = %(id)s"

log = structlog.get_logger()


class Job(Task[P]):
    """A job that joins the transaction of the change that asks for it."""

    async def enqueue(
        self, session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs
    ) -> str | None:
        """Put it on the queue when the session's transaction commits.

        Returns its id, or None if one waits under its key already.
        """
        message = self.message(*args, **kwargs)
        values = {"arguments": message.arguments, "context": message.context}
        row = {"job": message.job, "key": message.key, "values": orjson.dumps(values).decode()}
        put = await (await (await driver(session)).execute(PUT, row)).fetchone()
        return str(put[0]) if put else None


class Backoff(retry.BaseRetryStrategy):
    """Try again later and later, none at the same moment as another."""

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
    """From when on to look for it again after so many attempts: the look comes late enough."""
    return datetime.now(UTC) + timedelta(seconds=runner.later(attempts) - POLL_SECONDS)


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Run jobs until told to stop."""
    await _work(settings, stopping, None)


async def tick(settings: Settings, stopping: asyncio.Event) -> None:
    """Put jobs on the queue at their times until told to stop."""
    await _work(settings, stopping, [NONE])


async def dead_letters(_: Settings, limit: int) -> list[DeadLetter]:
    """The newest jobs that failed for good."""
    query = text(
        "select id, task_name, args->'arguments' from procrastinate_jobs"
        " where status = 'failed' order by id desc limit :limit"
    )
    async with transaction() as session:
        rows = await session.execute(query, {"limit": limit})
        return [DeadLetter(str(number), name, arguments) for number, name, arguments in rows]


async def replay(_: Settings, ids: list[str]) -> int:
    """Put dead letters back on the queue, as new; returns how many there were."""
    query = text(
        "update procrastinate_jobs"
        " set status = 'todo', attempts = 0, scheduled_at = null, queueing_lock = null"
        " where status = 'failed' and id::text = any(:ids) returning id"
    )
    async with transaction() as session:
        return len((await session.scalars(query, {"ids": ids})).all())


async def depth(_: Settings) -> Depth:
    query = text(
        "select count(*) filter (where status = 'todo' and queue_name = 'default'),"
        " count(*) filter (where status = 'failed') from procrastinate_jobs"
        " where status in ('todo', 'failed')"
    )
    async with transaction() as session:
        return Depth(*(await session.execute(query)).one())


def _app() -> procrastinate.App:
    """The library's view of the jobs and their times."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())
    logging.getLogger("procrastinate.worker").addFilter(
        lambda record: getattr(record, "action", None) != "job_error"  # job.failed says it
    )
    for name, task in runner.TASKS.items():

        async def run(
            job: procrastinate.JobContext,
            *,
            task: Task[Any] = task,
            arguments: dict[str, Any],
            context: dict[str, str],
            timestamp: int | None = None,
        ) -> None:
            attempt = job.job.attempts + 1
            if job.job.queueing_lock:
                await job.app.connector.execute_query_async(STARTED, id=job.job.id)
            await task.run(
                arguments=arguments, context=context, job_id=str(job.job.id), attempt=attempt
            )

        app.task(name=name, pass_context=True, retry=Backoff(task.attempts))(run)
    for cron, task in runner.TICKS:
        app.periodic_registry.register_task(
            task=app.tasks[task.name],
            cron=cron,
            periodic_id=cron,
            configure_kwargs={"task_kwargs": {"arguments": {}, "context": {}}},
        )
    return app


async def _rescue(app: procrastinate.App, silence: float, stopping: asyncio.Event) -> None:
    """Look for the jobs of dead workers until told to stop."""
    while not stopping.is_set():
        try:
            await _rescue_once(app, silence)
        except exceptions.ConnectorException as error:
            log.warning("worker.interrupted", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(silence / 3):
                await stopping.wait()


async def _rescue_once(app: procrastinate.App, silence: float) -> None:
    """Give the jobs of dead workers to others; one that keeps killing its worker fails."""
    for stalled in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=silence):
        again = not runner.last(stalled.task_name, stalled.attempts + 1)
        try:
            if again:
                # Apart from its neighbours, lest it kill the next worker before they are done; not
                # behind what comes in meanwhile, which may never end.
                await app.job_manager.retry_job(stalled, retry_at=later(stalled.attempts))
            else:
                await app.job_manager.finish_job(stalled, jobs.Status.FAILED, delete_job=False)
        except exceptions.ConnectorException:
            continue  # it ended after all, or another worker was first
        event = "job.rescued" if again else "job.failed"
        log.warning(event, job=stalled.task_name, job_id=stalled.id)


async def _work(settings: Settings, stopping: asyncio.Event, queues: list[str] | None) -> None:
    """Work until told to stop; when the database goes away, wait for it and go on.

    Nothing here is cancelled once it speaks to the database: a cancellation can get lost there.
    """
    app = _app()
    while not stopping.is_set():
        if not await runner.reached(stopping):
            return
        connector = procrastinate.PsycopgConnector(
            conninfo=settings.database_url.get_secret_value(),
            kwargs=KEEPALIVE,
            min_size=1,
            max_size=settings.database_pool_size,
            # The pool tries again at ever longer intervals, and is asleep when the database is
            # back. So it gives up early, and who waits here finds out within a second.
            timeout=settings.database_timeout_seconds,
            reconnect_timeout=settings.database_timeout_seconds,
        )
        try:
            with app.replace_connector(connector):
                async with app.open_async():
                    await _serve(app, settings, stopping, queues)
        except Exception as error:  # the driver's, the pool's and the library's alike
            log.warning("worker.interrupted", reason=str(error) or type(error).__name__)


async def _serve(
    app: procrastinate.App,
    settings: Settings,
    stopping: asyncio.Event,
    queues: list[str] | None,
) -> None:
    """Work as long as the database is there and nobody says stop."""
    silence = settings.worker_stalled_seconds
    worker = Worker(
        app,
        concurrency=settings.worker_concurrency,
        delete_jobs=jobs.DeleteJobCondition.SUCCESSFUL,
        fetch_job_polling_interval=POLL_SECONDS,
        install_signal_handlers=False,
        queues=queues,
        shutdown_graceful_timeout=settings.grace_seconds,
        stalled_worker_timeout=silence,
        update_heartbeat_interval=silence / 3,
    )
    done = asyncio.Event()
    working = asyncio.create_task(worker.run())  # type: ignore[no-untyped-call]
    rescuing = asyncio.create_task(_rescue(app, silence, done))
    log.info("worker.started", queues=queues or ["all"])
    try:
        await runner.first(working, stopping)
        worker.stop()  # type: ignore[no-untyped-call]
        await working
    finally:
        done.set()
        await rescuing
