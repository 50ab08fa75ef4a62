"""A job that does nothing, by the service's own queue; goes into the service."""

import asyncio
import os

import meter

from . import config, parts, resources
from .queue import job

TOGETHER = int(os.environ["TOGETHER"])  # in one transaction


@job()
async def noop() -> None:
    meter.done()


async def together(count: int) -> None:
    from .postgres import transaction

    for _ in range(count // TOGETHER):
        async with transaction() as session:
            for _ in range(TOGETHER):
                await noop.enqueue(session)


async def alone(count: int) -> None:
    from .postgres import transaction

    for _ in range(count):
        async with transaction() as session:
            await noop.enqueue(session)


async def change(count: int) -> None:
    from sqlalchemy import text

    from .postgres import transaction

    for _ in range(count):
        async with transaction() as session:
            await session.execute(text(meter.CHANGE))
            await noop.enqueue(session)


async def direct(count: int) -> None:
    for _ in range(count):
        await noop.enqueue()


async def main() -> None:
    async with resources.attach(config.load()):
        if "postgres" not in parts.RESOURCES:
            await meter.answer(alone=direct)
        elif os.environ["BROKER"] == "postgres":
            await meter.answer(together=together, alone=alone, change=change)
        else:
            from . import outbox

            await meter.answer(outbox.waiting, together=together, alone=alone, change=change)


def enqueue() -> None:
    asyncio.run(main())
