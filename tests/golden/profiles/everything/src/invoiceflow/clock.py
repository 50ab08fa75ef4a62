"""The clock: puts jobs on the queue at their time, each time once: a second clock adds none."""

from . import parts, queue, resources
from .config import Settings


def main(settings: Settings) -> int:
    resources.load(parts.SCHEDULES)
    # It runs no job but the queue's own housekeeping: yours are the workers'.
    return queue.work(settings, queues=["maintenance"])
