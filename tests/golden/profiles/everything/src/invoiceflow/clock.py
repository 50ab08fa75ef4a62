"""The clock: puts jobs on the queue at their time, each time once: a second clock adds none."""

from . import parts, queue, queue_rabbitmq, resources
from .config import Settings


def main(settings: Settings) -> int:
    resources.load(parts.SCHEDULES)
    # It runs no job of yours: those are the workers'.
    return queue.work(settings, queue_rabbitmq.tick)
