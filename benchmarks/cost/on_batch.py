"""What a worker costs that takes several of procrastinate's jobs in one query and finishes them so.

An experiment: `library` is the library's worker with two of its queries replaced, `lean` a loop
that does what has to be done and no more, and neither retries nor rescues.
"""

import asyncio
import os
import sys
from collections import deque
from typing import Any

import meter
import psycopg
from on_procrastinate import app, work
from procrastinate import jobs

AT_ONCE = int(os.environ["AT_ONCE"])

FETCH = """
with candidate as (
    select id from procrastinate_jobs
    where status = 'todo' and lock is null and (scheduled_at is null or scheduled_at <= now())
    order by priority desc, id limit %(limit)s for update skip locked
)
update procrastinate_jobs job set status = 'doing', worker_id = %(worker)s
from candidate where job.id = candidate.id
returning job.id, status, task_name, priority, lock, queueing_lock, args, scheduled_at,
    queue_name, attempts, worker_id
"""
FINISH = "delete from procrastinate_jobs where id = any(%(ids)s)"


class Manager:
    """The two of the library's queries that each job takes, for several jobs at once."""

    def __init__(self) -> None:
        self.fetched: deque[jobs.Job] = deque()
        self.finished: list[int | None] = []
        self.flushing: asyncio.Task[None] | None = None

    async def fetch_job(self, queues: object, worker_id: int) -> jobs.Job | None:
        if not self.fetched:
            connector: Any = app.connector
            rows = await connector.execute_query_all_async(FETCH, limit=AT_ONCE, worker=worker_id)
            self.fetched.extend(map(jobs.Job.from_row, rows))
        return self.fetched.popleft() if self.fetched else None

    async def finish_job(self, job: jobs.Job, status: object, delete_job: bool) -> None:
        self.finished.append(job.id)
        if not self.flushing:
            self.flushing = asyncio.create_task(self.flush())
        await self.flushing

    async def flush(self) -> None:
        await asyncio.sleep(0)  # what ends in the same turn of the loop goes together
        ids, self.finished, self.flushing = self.finished, [], None
        await app.connector.execute_query_async(FINISH, ids=ids)


async def library() -> None:
    manager: Any = Manager()
    app.job_manager.fetch_job = manager.fetch_job
    app.job_manager.finish_job = manager.finish_job
    await work()


async def lean() -> None:
    async with await psycopg.AsyncConnection.connect(
        os.environ["DATABASE_URL"], autocommit=True
    ) as connection:
        while True:
            values = {"limit": AT_ONCE, "worker": None}
            rows = await (await connection.execute(FETCH, values)).fetchall()
            if not rows:
                await asyncio.sleep(0.05)
                continue
            tasks = [asyncio.create_task(run(row[6])) for row in rows]
            await asyncio.gather(*tasks)
            await connection.execute(FINISH, {"ids": [row[0] for row in rows]})


async def run(arguments: dict[str, Any]) -> None:
    async with asyncio.timeout(60):
        await noop(**arguments)


async def noop() -> None:
    meter.done()


def main() -> None:
    asyncio.run({"library": library, "lean": lean}[sys.argv[1]]())
