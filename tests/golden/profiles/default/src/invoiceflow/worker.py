"""The worker (factor VIII): takes jobs from the queue; run as many as the backlog needs."""

from . import parts, queue, queue_postgres, resources
from .config import Settings


def main(settings: Settings) -> int:
    resources.load(parts.JOBS)
    return queue.work(settings, queue_postgres.serve, queue_postgres.depth)
