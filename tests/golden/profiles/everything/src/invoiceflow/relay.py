"""The relay: sends the jobs that stand in the outbox to the broker; a second one does no harm."""

import asyncio

from . import outbox, queue, queue_rabbitmq, runner
from .config import Settings


def main(settings: Settings) -> int:
    return queue.work(settings, serve)


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    if await runner.reached(stopping):
        async with queue_rabbitmq.sending(settings) as send:
            await outbox.relay(settings, stopping, send)
