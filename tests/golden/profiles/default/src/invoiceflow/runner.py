"""What a job is, and how a worker runs it, whichever broker it came from."""

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, ParamSpec, Self

import structlog

from . import resources
from .config import Settings

P = ParamSpec("P")
Send = Callable[[Sequence[tuple[str, "Message"]]], Awaitable[object]]
Count = Callable[[Settings], Awaitable["Depth"]]
Serve = Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]

TRAVELS = ("request_id", "traceparent")  # what a job's log lines have of the request behind it
LONGEST_BACKOFF = 600  # seconds; a broker that holds messages back must not hold them for hours

ATTEMPTS = 10  # of a job that this release does not know

log = structlog.get_logger()


class Message(NamedTuple):
    """A job that waits: which one, and plain JSON values."""

    job: str
    arguments: dict[str, Any]
    context: dict[str, str]
    key: str | None = None


class DeadLetter(NamedTuple):
    """A job that failed for good and is kept."""

    id: str
    job: str
    arguments: dict[str, Any]


class Depth(NamedTuple):
    """How many jobs wait to be run, and how many are dead letters."""

    waiting: int
    dead: int


@dataclass(frozen=True)
class Task(Generic[P]):
    """A function that a worker runs; call it to run it here."""

    function: Callable[P, Awaitable[None]]
    attempts: int
    seconds: float
    name: str = field(init=False)
    signature: inspect.Signature = field(init=False, repr=False)
    key: str | None = None

    def __post_init__(self) -> None:
        module = self.function.__module__.partition(".")[2]
        object.__setattr__(self, "name", f"{module}.{self.function.__name__}")
        object.__setattr__(self, "signature", inspect.signature(self.function))

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        await self.function(*args, **kwargs)

    def once(self, key: str) -> Self:
        """The same job, put on the queue only if none waits under this key."""
        return replace(self, key=f"{self.name} {key}")

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message:
        """What goes to the broker; raises TypeError if the function would not take it."""
        arguments = self.signature.bind(*args, **kwargs).arguments
        bound = structlog.contextvars.get_contextvars()
        context = {name: bound[name] for name in TRAVELS if bound.get(name)}
        return Message(self.name, arguments, context, self.key)

    async def run(
        self, *, arguments: dict[str, Any], context: dict[str, str], job_id: str, attempt: int
    ) -> None:
        """Run it for the worker, within its time, under the ids of the request behind it."""
        structlog.contextvars.bind_contextvars(
            **context, job=self.name, job_id=job_id, attempt=attempt
        )
        started = time.perf_counter()
        log.info("job.started")
        try:
            async with asyncio.timeout(self.seconds):
                await self.function(**arguments)  # type: ignore[call-arg]  # bound when enqueued
        except asyncio.CancelledError:
            log.warning("job.returned", reason="the worker stops")
            raise
        except Exception:
            log.exception("job.failed" if attempt >= self.attempts else "job.retried")
            raise
        log.info("job.done", duration_ms=round((time.perf_counter() - started) * 1000, 1))


class Tick(NamedTuple):
    """A job and its times, a cron expression in UTC."""

    cron: str
    task: Task[[]]


TASKS: dict[str, Task[Any]] = {}
TICKS: list[Tick] = []


def last(job: str, attempts: int) -> bool:
    """Whether a job that was tried so often has had all its attempts."""
    task = TASKS.get(job)
    return attempts >= (task.attempts if task else ATTEMPTS)


def later(attempts: int) -> float:
    """Seconds until the next try after so many: 1, 2, 4 ..., none at the same moment."""
    return float(min(LONGEST_BACKOFF, 2**attempts)) * random.uniform(0.5, 1.5)  # noqa: S311


async def reached(stopping: asyncio.Event, **more: resources.Ping) -> bool:
    """Wait for every resource, and these; False if the word to stop came first."""
    reaching = asyncio.create_task(resources.reached(**more))
    await first(reaching, stopping)
    if stopping.is_set():
        reaching.cancel()
    return not stopping.is_set()


async def first(task: asyncio.Task[None], stopping: asyncio.Event) -> None:
    """Wait for the end of the task or for the word to stop."""
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
