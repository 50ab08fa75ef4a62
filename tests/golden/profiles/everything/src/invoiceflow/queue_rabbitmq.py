"""Jobs in RabbitMQ: quorum queues, and every message confirmed before it leaves the outbox."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from threading import Lock
from types import SimpleNamespace
from typing import Any

import dramatiq
import pika  # type: ignore[import-untyped]
from dramatiq.brokers import rabbitmq
from dramatiq.common import xq_name
from dramatiq.errors import ConnectionClosed

from . import outbox, queue_dramatiq, runner
from .config import Settings
from .queue_dramatiq import Patient, in_thread
from .runner import DeadLetter, Depth, Message, Send
from .ticks import tick

__all__ = ["dead_letters", "depth", "replay", "sending", "serve", "tick"]

HEARTBEAT_SECONDS = 10  # a connection whose other end is gone says so within twice that
ANSWER_SECONDS = 5

# Of one refused connection it writes ten lines; what waits for it says so in one.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class Broker(rabbitmq.RabbitmqBroker):
    """dramatiq's, on queues that outlive the loss of a node and replay nothing after a crash."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(confirm_delivery=True, middleware=[])
        self.jobs = settings.rabbitmq_queue or str(__package__)
        self.again = f"{self.jobs}.again"
        parameters = pika.URLParameters(settings.rabbitmq_url.get_secret_value())
        parameters.heartbeat = HEARTBEAT_SECONDS
        parameters.blocked_connection_timeout = ANSWER_SECONDS
        parameters.socket_timeout = ANSWER_SECONDS
        parameters.stack_timeout = ANSWER_SECONDS
        self.parameters = parameters

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        super().declare_queue(self.jobs, ensure=ensure)

    def _declare_queue(self, queue_name: str) -> Any:
        # What is tried again, in a queue of its own: in this one it would stand at the end.
        super()._declare_queue(self.again)  # type: ignore[no-untyped-call]
        return super()._declare_queue(queue_name)  # type: ignore[no-untyped-call]

    def _build_queue_arguments(self, _: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_queue_arguments(self.jobs)  # type: ignore[no-untyped-call]
        return arguments | {"x-queue-type": "quorum"}

    def get_queue_message_counts(self, queue_name: str) -> tuple[int, int, int]:
        new, delayed, dead = super().get_queue_message_counts(queue_name)
        again = self.channel.queue_declare(self.again, passive=True)
        return new + again.method.message_count, delayed, dead

    def _declare_xq_queue(self, queue_name: str) -> Any:
        # Not a quorum queue: those drop what is looked at too often.
        arguments = {"x-queue-type": "classic", "x-message-ttl": rabbitmq.DEAD_MESSAGE_TTL}
        return self.channel.queue_declare(xq_name(queue_name), durable=True, arguments=arguments)


class Publisher(Broker):
    """One connection, used by one thread after the other."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.state = SimpleNamespace()  # type: ignore[assignment]  # the library's is a thread's
        self.lock = Lock()
        self.used = time.monotonic()

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        with self.lock:
            if time.monotonic() - self.used > HEARTBEAT_SECONDS:
                del self.connection  # it answered no heartbeat: the server has given it up
            sent = super().enqueue(message, delay=delay)
            self.used = time.monotonic()
            return sent

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        with self.lock:
            return super().consume(queue_name, prefetch, timeout)

    def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
        for id, job in messages:
            self.enqueue(queue_dramatiq.message(self.jobs, id, job))


class Consumer(rabbitmq._RabbitmqConsumer):
    asked: Future[Any] | None = None

    def take(self) -> None:
        """Answer with a job that is tried again, or None."""
        channel: Any = self.channel
        method = message = None
        # A look costs less than a get, on which all replicas of the queue agree.
        if channel.queue_declare(self.broker.again, passive=True).method.message_count:
            method, _, body = channel.basic_get(self.broker.again)
        if method:
            make: Any = rabbitmq._RabbitmqMessage
            message = make(method.redelivered, method.delivery_tag, dramatiq.Message.decode(body))
            message.consumer = self
            self.known_tags.add(message._tag)
        self._answer(message)

    def close(self) -> None:
        try:
            super().close()  # type: ignore[no-untyped-call]
        finally:
            # Of a channel that the server has closed, the library leaves the connection open: who
            # asks next would be answered by nobody.
            with suppress(pika.exceptions.AMQPError):
                self.connection.close()
            self._answer(None)

    def _answer(self, message: Any) -> None:
        if self.asked and not self.asked.done():
            self.asked.set_result(message)

    def ack(self, message: Any) -> None:
        """Acknowledge it, and at once where what is held back waits: only this thread does."""
        if self.queue_name == self.broker.jobs or message._tag not in self.known_tags:
            super().ack(message)  # type: ignore[no-untyped-call]
            return
        self.known_tags.remove(message._tag)
        try:
            self.channel.basic_ack(message._tag)
        except pika.exceptions.AMQPError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    def acknowledge(self, tags: Sequence[int]) -> None:
        """Acknowledge these, all that the connection knows of, in one write."""
        self.known_tags.difference_update(tags)
        *others, last = tags
        for tag in others:
            self.channel._impl.basic_ack(tag)  # without waiting until it is written
        self.channel.basic_ack(last)

    def requeue(self, messages: Iterable[Any]) -> None:
        """Send what was not begun anew when the worker stops: returned, it would count as tried."""
        unbegun = list(messages)
        if self.queue_name != self.broker.jobs:
            return
        if not unbegun and not self.channel.get_waiting_message_count():
            return
        # Of a connection that is gone the server has taken them back.
        with suppress(AssertionError, ConnectionClosed, pika.exceptions.AMQPError):
            unbegun += iter(lambda: next(self), None)
            self.channel.cancel()
            for message in unbegun:
                self.broker.enqueue(message)
                self.ack(message)


class WorkerBroker(Patient, Publisher):
    consumer_class = Consumer

    async def first(self, worker: dramatiq.Worker) -> Any:
        """A job that is tried again, if one waits: it comes before what is newer."""
        thread = worker.consumers.get(self.jobs)
        if not thread or not thread.consumer:
            return None
        consumer: Any = thread.consumer
        asked = consumer.asked = Future[Any]()
        try:
            consumer.connection.add_callback_threadsafe(consumer.take)
        except pika.exceptions.ConnectionWrongStateError:
            return None
        return await asyncio.wrap_future(asked)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        # What a worker puts back is tried again, at once or when it has been held back.
        queue = self.again if delay is None else self.jobs
        return super().enqueue(message.copy(queue_name=queue), delay=delay)

    async def acknowledge(self, messages: Iterable[Any]) -> None:
        hands = defaultdict(list)
        for message in messages:
            hands[message.consumer].append(message._tag)
        for consumer, tags in hands.items():
            # Of a connection that is gone the server has taken them back.
            with suppress(pika.exceptions.ConnectionWrongStateError):
                consumer.connection.add_callback_threadsafe(partial(consumer.acknowledge, tags))


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Run jobs until told to stop."""
    if await runner.reached(stopping, rabbitmq=partial(_ping, settings)):
        broker = WorkerBroker(settings)
        await queue_dramatiq.serve(settings, stopping, broker, broker.jobs, [])


@asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[Send]:
    """What puts jobs on the queue."""
    publisher = Publisher(settings)

    async def send(messages: Sequence[tuple[str, Message]]) -> None:
        await in_thread(partial(publisher.publish, messages))

    try:
        yield send
    finally:
        await in_thread(publisher.close)


async def dead_letters(settings: Settings, limit: int) -> list[DeadLetter]:
    """The oldest jobs that failed for good."""

    def look() -> list[DeadLetter]:
        with closing(Broker(settings)) as broker:  # what it does not acknowledge, it gives back
            letters = [letter for _, letter in _letters(broker, limit)]
        return list(map(queue_dramatiq.dead_letter, letters))

    return await in_thread(look)


async def replay(settings: Settings, ids: list[str]) -> int:
    """Put dead letters back on the queue, as new; returns how many there were."""

    def put_back() -> int:
        with closing(Broker(settings)) as broker:
            wanted = [pair for pair in _letters(broker) if pair[1].message_id in ids]
            for tag, letter in wanted:
                new = {"queue_name": broker.jobs, "options": {}}
                broker.enqueue(dramatiq.Message(**letter.asdict() | new))
                broker.channel.basic_ack(tag)
            return len(wanted)

    return await in_thread(put_back)


async def depth(settings: Settings) -> Depth:
    def count() -> tuple[int, int, int]:
        with closing(Broker(settings)) as broker:
            return broker.get_queue_message_counts(broker.jobs)

    waiting, delayed, dead = await in_thread(count)
    return Depth(await outbox.waiting() + waiting + delayed, dead)


async def _ping(settings: Settings) -> None:
    await in_thread(lambda: pika.BlockingConnection(Broker(settings).parameters).close())


def _letters(broker: Broker, limit: int | None = None) -> list[tuple[int, dramatiq.Message[None]]]:
    """Dead letters with the tags by which they can be acknowledged, while the broker is open."""
    broker.declare_queue(broker.jobs, ensure=True)
    found: list[tuple[int, dramatiq.Message[None]]] = []
    while limit is None or len(found) < limit:
        method, _, body = broker.channel.basic_get(xq_name(broker.jobs))
        if method is None:
            break
        found.append((method.delivery_tag, dramatiq.Message.decode(body)))
    return found
