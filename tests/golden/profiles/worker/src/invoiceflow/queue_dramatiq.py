"""Jobs by dramatiq: what RabbitMQ and Redis have in common."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from queue import PriorityQueue
from threading import Condition, Thread
from typing import Any, TypeVar

import dramatiq
import structlog
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware

from . import direct, runner
from .config import Settings
from .runner import DeadLetter, Message

T = TypeVar("T")

IDLE_MILLISECONDS = 250  # how long it takes to notice what is due, or the word to stop
MOVE_SECONDS = 5  # longest wait until what was put elsewhere is acknowledged where it was
RETRY_SECONDS = 1
TOGETHER_SECONDS = 0.003  # what was done quicker waits so long for others, to be acknowledged with

# A stop waits for a consumer that lost its connection and will look again.
dramatiq.worker.CONSUMER_RESTART_DELAY_SECS = RETRY_SECONDS

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
    # It is looked for where it is held back, then where it waits. No delay is shorter.
    return int(runner.later(attempts - 1) * 1000) - 2 * IDLE_MILLISECONDS


def patiently(id: str, function: Callable[[], T]) -> T:
    """Do it for this job, however often that must be tried.

    The library would count a job as done whose retry could not be sent.
    """
    while True:
        try:
            return function()
        except Exception as error:  # the client's and the library's alike
            log.warning("job.held", job_id=id, reason=repr(error))
            time.sleep(RETRY_SECONDS)


class Patient:
    """A worker's broker: what it has to put back it puts back, however long that takes."""

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        enqueue = partial(super().enqueue, message, delay=delay)  # type: ignore[misc]
        return patiently(message.message_id, enqueue)


class Moving(Middleware):
    """What was put elsewhere, and not acknowledged yet where it was."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.moved = Condition()

    def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        with self.moved:
            self.ids.add(message.message_id)

    def after_ack(self, broker: Broker, message: Any) -> None:
        with self.moved:
            self.ids.discard(message.message_id)
            self.moved.notify_all()

    def wait(self, id: str) -> None:
        with self.moved:
            self.moved.wait_for(lambda: id not in self.ids, MOVE_SECONDS)


class Jobs(PriorityQueue[Any]):
    """What the library's threads would do, on the event loop: it runs what consumers put here."""

    def __init__(self, broker: Any, worker: dramatiq.Worker, stopping: asyncio.Event) -> None:
        super().__init__()
        self.broker = broker
        self.worker = worker
        self.stopping = stopping
        # Where what is tried again waits in a place of its own: one of it, if there is any.
        self.first: Any = getattr(broker, "first", None)
        self.loop = asyncio.get_running_loop()
        self.moving = Moving()
        broker.add_middleware(self.moving)
        self.woken = False
        self.hand: set[asyncio.Task[None]] = set()
        self.running: set[asyncio.Task[None]] = set()
        self.done: list[Any] = []
        self.waiting = self.loop.call_soon(self._acknowledge)
        self.due = False
        if self.first:
            self.loop.call_soon(self._look)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        # After an outage there is another consumer, which knows nothing of this one's messages.
        item.message.consumer = self.worker.consumers[item.message.queue_name].consumer
        super().put(item)
        if not self.woken:
            self.woken = True
            self.loop.call_soon_threadsafe(self._begin)

    async def stop(self, grace: float) -> None:
        """Wait for the jobs in hand, and after the grace give them back."""
        self.loop.call_later(grace, lambda: [task.cancel() for task in self.running])
        self._acknowledge()
        while self.hand:
            await asyncio.wait(self.hand)

    def _look(self) -> None:
        self.due = True
        self._begin()

    def _begin(self) -> None:
        self.woken = False
        while len(self.hand) < self.worker.queue_prefetch and not self.stopping.is_set():
            if self.due:
                self.due = False
                self._start(self._handle_first())
            elif not self.empty():
                self._start(self._handle(self.get_nowait().message))
            else:
                break

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        # In a context of its own: none has the ids of the job that ended when it began.
        task = self.loop.create_task(coroutine, context=Context())
        self.hand.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self.hand.discard(task)
        self._begin()

    async def _handle_first(self) -> None:
        """Handle one that is tried again; if there is none, look before long."""
        message = await self.first(self.worker)
        if message is None:
            self.loop.call_later(IDLE_MILLISECONDS / 1000, self._look)
        else:
            self._look()
            await self._handle(message)

    async def _handle(self, message: Any) -> None:
        """Try again what failed, later and later; what a stop interrupted, at once."""
        began = self.loop.time()
        id = message.message_id
        if id in self.moving.ids:
            # If it killed the process while it still stands where it was, there would be two of it.
            await in_thread(partial(self.moving.wait, id))
        if getattr(message, "redelivered", False):  # by RabbitMQ: its worker died
            # Apart from its neighbours, lest it kill the next worker before they are done.
            await self._again(message)
            event = "job.failed" if message.failed else "job.rescued"
            log.warning(event, job=message.actor_name, job_id=id)
        else:
            try:
                await self._run(message)
            except asyncio.CancelledError:
                await in_thread(partial(self.broker.enqueue, message))
            except Exception:
                await self._again(message)
        if message.failed:
            await in_thread(partial(patiently, id, partial(message.consumer.nack, message)))
            return
        self.done.append(message)
        quick = self.loop.time() - began < TOGETHER_SECONDS
        if not quick or len(self.done) >= self.worker.queue_prefetch or self.stopping.is_set():
            self._acknowledge()
        elif len(self.done) == 1:
            self.waiting = self.loop.call_later(TOGETHER_SECONDS, self._acknowledge)

    async def _run(self, message: Any) -> None:
        this = asyncio.current_task()
        assert this  # noqa: S101
        self.running.add(this)
        try:
            if self.stopping.is_set():
                raise asyncio.CancelledError
            values = dict(message.kwargs)
            if key := values.pop("key", None):
                await direct.started(message.message_id, key)
            attempt = message.options.get("attempts", 0) + 1
            if message.actor_name not in runner.TASKS:  # another release began with it
                log.error("job.unknown", job=message.actor_name, job_id=message.message_id)
            task = runner.TASKS[message.actor_name]
            await task.run(job_id=message.message_id, attempt=attempt, **values)
        finally:
            self.running.discard(this)

    async def _again(self, message: Any) -> None:
        delay = again(message)
        if delay is None:
            message.fail()
        else:
            await in_thread(partial(self.broker.enqueue, message, delay=delay))

    def _acknowledge(self) -> None:
        self.waiting.cancel()
        if self.done:
            self._start(self._acknowledged(self.done))
            self.done = []

    async def _acknowledged(self, messages: list[Any]) -> None:
        while True:
            try:
                await self.broker.acknowledge(messages)
                break
            except Exception as error:  # whatever the client raises: they stay in hand
                log.warning("worker.interrupted", reason=str(error) or type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
        for message in messages:
            self.moving.after_ack(self.broker, message)


async def serve(
    settings: Settings,
    stopping: asyncio.Event,
    broker: Broker,
    queue: str,
    beside: list[Coroutine[Any, Any, None]],
) -> None:
    """Run the jobs of a queue until told to stop, and these beside them."""
    for task in runner.TASKS.values():
        dramatiq.Actor[..., None](
            task.function,  # is not called: the library refuses jobs that it does not know
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
    worker.worker_threads = 0
    worker.work_queue = jobs = Jobs(broker, worker, stopping)
    worker.start()
    helpers = [asyncio.create_task(helper) for helper in beside]
    log.info("worker.started", queues=[queue])
    await stopping.wait()
    await jobs.stop(settings.grace_seconds)

    def stop() -> None:
        worker.stop(timeout=2**31)  # consumers end within their timeouts
        broker.close()

    await in_thread(stop)
    for helper in helpers:
        helper.cancel()


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
