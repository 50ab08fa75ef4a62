"""Jobs by dramatiq: what RabbitMQ and Redis have in common."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Condition, Thread
from typing import Any, TypeVar

import dramatiq
import structlog
from croniter import croniter
from dramatiq.broker import Broker
from dramatiq.middleware import CurrentMessage, Middleware, SkipMessage

from . import outbox, resources, runner
from .config import Settings
from .runner import DeadLetter, Message, Task

T = TypeVar("T")

IDLE_MILLISECONDS = 500  # how long an idle thread takes to notice that it should stop
MOVE_SECONDS = 5  # longest wait until what was put elsewhere is acknowledged where it was
RETRY_SECONDS = 1
MISSED = timedelta(minutes=10)  # a time that no clock saw for longer stays missed

log = structlog.get_logger()


def message(queue: str, id: str, job: Message) -> dramatiq.Message[None]:
    """A job as dramatiq sends it."""
    values = {"arguments": job.arguments, "context": job.context, "key": job.key}
    return dramatiq.Message(queue, job.job, (), values, {}, message_id=id)


def dead_letter(message: dramatiq.Message[Any]) -> DeadLetter:
    return DeadLetter(message.message_id, message.actor_name, message.kwargs["arguments"])


def again(message: Any) -> int | None:
    """Count an attempt that came to nothing: milliseconds to the next, None after the last."""
    attempts = message.options["attempts"] = message.options.get("attempts", 0) + 1
    if runner.last(message.actor_name, attempts):
        return None
    return int(runner.later(attempts - 1) * 1000)


class Attempts(Middleware):
    """Tries what failed again, later and later; what a stop interrupted, at once."""

    def __init__(self) -> None:
        self.moving: set[str] = set()
        self.moved = Condition()

    def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        with self.moved:
            self.moving.add(message.message_id)

    def after_ack(self, broker: Broker, message: Any) -> None:
        with self.moved:
            self.moving.discard(message.message_id)
            self.moved.notify_all()

    def before_process_message(self, broker: Broker, message: Any) -> None:
        with self.moved:
            # If it killed the process while it still stands where it was, there would be two of it.
            self.moved.wait_for(lambda: message.message_id not in self.moving, MOVE_SECONDS)
        if getattr(message, "redelivered", False):  # by RabbitMQ: its worker died
            delay = again(message)
            event = "job.failed" if delay is None else "job.rescued"
            log.warning(event, job=message.actor_name, job_id=message.message_id)
            if delay is None:
                message.fail()
            else:
                # Apart from its neighbours, lest it kill the next worker before they are done.
                broker.enqueue(message, delay=delay)
                raise SkipMessage

    def after_process_message(
        self,
        broker: Broker,
        message: Any,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        if isinstance(exception, CancelledError):
            broker.enqueue(message)
        elif exception:
            delay = again(message)
            if delay is None:
                message.fail()
            else:
                broker.enqueue(message, delay=delay)


class Patient:
    """A worker's broker: what it has to put back it puts back, however long that takes.

    The library would count a job as done whose retry could not be sent.
    """

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        while True:
            try:
                return super().enqueue(message, delay=delay)  # type: ignore[misc]
            except Exception as error:  # the client's and the library's alike
                log.warning("job.held", job_id=message.message_id, reason=repr(error))
                time.sleep(RETRY_SECONDS)


async def serve(
    settings: Settings,
    stopping: asyncio.Event,
    broker: Broker,
    queue: str,
    beside: list[Coroutine[Any, Any, None]],
) -> None:
    """Run the jobs of a queue until told to stop, and these beside them."""
    # What it says of a failed job, job.failed and job.retried say better.
    logging.getLogger("dramatiq.worker.WorkerThread").setLevel(logging.CRITICAL)
    running: set[asyncio.Task[None]] = set()
    for middleware in (CurrentMessage(), Attempts()):
        broker.add_middleware(middleware)
    for task in runner.TASKS.values():
        dramatiq.Actor(
            _actor(task, asyncio.get_running_loop(), running, stopping),
            actor_name=task.name,
            broker=broker,
            options={},
            priority=0,
            queue_name=queue,
        )
    broker.declare_queue(queue)
    worker = dramatiq.Worker(
        broker, worker_threads=settings.worker_concurrency, worker_timeout=IDLE_MILLISECONDS
    )
    worker.queue_prefetch = settings.worker_concurrency  # what waits should wait for any worker
    worker.start()
    helpers = [asyncio.create_task(helper) for helper in beside]
    log.info("worker.started", queues=[queue])
    await stopping.wait()
    asyncio.get_running_loop().call_later(
        settings.grace_seconds, lambda: [task.cancel() for task in running]
    )

    def stop() -> None:
        worker.stop(timeout=2**31)  # the grace is kept by others: a thread ends with its job
        broker.close()

    await in_thread(stop)
    for helper in helpers:
        helper.cancel()


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


async def in_thread(function: Callable[[], T]) -> T:
    """Run what blocks in a thread that does not hold the process when it ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(set_outcome: Callable[[Any], None], outcome: object) -> None:
        if not done.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            outcome = partial(finish, done.set_result, function())
        except Exception as error:
            outcome = partial(finish, done.set_exception, error)
        with suppress(RuntimeError):  # the loop is gone, and so is who waited
            loop.call_soon_threadsafe(outcome)

    Thread(target=run, daemon=True).start()
    return await done


def _actor(
    task: Task[Any],
    loop: asyncio.AbstractEventLoop,
    running: set[asyncio.Task[None]],
    stopping: asyncio.Event,
) -> Callable[..., None]:
    async def run(message_id: str, attempt: int, key: str | None, values: dict[str, Any]) -> None:
        this = asyncio.current_task()
        assert this  # noqa: S101
        running.add(this)
        try:
            if key:
                await outbox.started(message_id, key)
            await task.run(job_id=message_id, attempt=attempt, **values)
        finally:
            running.discard(this)

    def function(key: str | None = None, **values: Any) -> None:
        if stopping.is_set():
            raise CancelledError  # begun by a thread that has not noticed yet
        message = CurrentMessage.get_current_message()
        assert message  # noqa: S101
        attempt = message.options.get("attempts", 0) + 1
        job = run(message.message_id, attempt, key, values)
        asyncio.run_coroutine_threadsafe(job, loop).result()

    return function


def _times(cron: str, last: datetime, now: datetime) -> list[datetime]:
    """The times of a cron expression after the last one that was seen, up to now."""
    times = croniter(cron, max(last, now - MISSED)).all_next(datetime)
    passed = []
    for time_ in times:
        if time_ > now:
            break
        passed.append(time_)
    return passed
