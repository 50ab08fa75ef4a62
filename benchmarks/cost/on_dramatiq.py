"""A job that does nothing, by the bare library."""

import asyncio
import logging
import os
import signal
import sys

import dramatiq
import meter
from dramatiq.broker import Broker
from dramatiq.middleware import AsyncIO

broker: Broker
if os.environ["BROKER"] == "rabbitmq":
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    broker = RabbitmqBroker(url=os.environ["RABBITMQ_URL"], confirm_delivery=True)
else:
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)


@dramatiq.actor
async def noop() -> None:
    meter.done()


def work() -> None:
    logging.basicConfig(level=logging.INFO)  # as the library's own command has it
    worker = dramatiq.Worker(broker, worker_threads=int(os.environ["WORKER_CONCURRENCY"]))
    worker.start()
    signal.sigwait([signal.SIGTERM])
    worker.stop()


async def change(count: int) -> None:
    """First the change, then its job, which is lost when the process dies between them."""
    from sqlalchemy import text

    for _ in range(count):
        async with meter.transaction() as session:
            await session.execute(text(meter.CHANGE))
        noop.send()


async def alone(count: int) -> None:
    for _ in range(count):
        noop.send()


async def enqueue() -> None:
    if "DATABASE_URL" not in os.environ:
        await meter.answer(alone=alone)
        return
    async with meter.attached():
        await meter.answer(alone=alone, change=change)


def main() -> None:
    if sys.argv[1] == "work":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        work()
    else:
        asyncio.run(enqueue())
