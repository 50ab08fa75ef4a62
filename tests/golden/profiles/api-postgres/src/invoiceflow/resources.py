"""Backing services (factor IV): attached by URL, opened in order, closed in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from types import ModuleType

import structlog

from . import parts
from .config import Settings

PING_SECONDS = 5
CLOSE_SECONDS = 3
RETRY_SECONDS = 1

Ping = Callable[[], Awaitable[None]]

log = structlog.get_logger()


class Unavailable(Exception):
    """A backing service gave no answer in time; the same request may succeed later."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        super().__init__(f"{resource} gives no answer")


def load(names: list[str]) -> list[ModuleType]:
    """Import the modules that a list of parts.py names."""
    return [import_module(f".{name}", __package__) for name in names]


@asynccontextmanager
async def attach(settings: Settings) -> AsyncIterator[None]:
    """Open every resource. None is asked for anything yet: the process starts without them."""
    stack = AsyncExitStack()
    try:
        for resource in load(parts.RESOURCES):
            await stack.enter_async_context(resource.connect(settings))
        yield
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await stack.aclose()
        except Exception as error:  # a hung resource must not hold the process
            log.warning("resources.close_failed", error=type(error).__name__)


async def reached(**more: Ping) -> None:
    """Return once every resource has answered, and these; say which one is waited for."""
    pings = [resource.ping for resource in load(parts.RESOURCES)]
    named = dict(zip(parts.RESOURCES, pings, strict=True)) | more
    for name, ping in named.items():
        waiting = None
        while True:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await ping()
                break
            except Exception as error:  # whatever the driver raises, the answer is: try again
                if (task := asyncio.current_task()) and task.cancelling():
                    raise asyncio.CancelledError from error  # the driver's error came in its place
                reason = str(error) or type(error).__name__
            if reason != waiting:
                log.warning("resource.waiting", resource=name, reason=reason)
                waiting = reason
            await asyncio.sleep(RETRY_SECONDS)
    log.info("resources.reached", resources=list(named))
