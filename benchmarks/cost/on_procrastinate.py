"""A job that does nothing, by the bare library."""

import asyncio
import logging
import os
import sys

import meter
import procrastinate
import psycopg
from procrastinate.schema import SchemaManager

URL = os.environ["DATABASE_URL"]
SERVER, _, DATABASE = URL.rpartition("/")
TOGETHER = int(os.environ["TOGETHER"])  # in one transaction

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=1, max_size=5)
)


@app.task(name="noop")
async def noop() -> None:
    meter.done()


def make() -> None:
    with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {DATABASE}")
    with psycopg.connect(URL) as connection:
        connection.execute(SchemaManager.get_schema())


async def work() -> None:
    logging.basicConfig(level=logging.INFO)  # as the library's own command has it
    async with app.open_async():
        await app.run_worker_async(
            concurrency=int(os.environ["WORKER_CONCURRENCY"]), delete_jobs="successful"
        )


async def together(count: int) -> None:
    async with await psycopg.AsyncConnection.connect(URL) as connection:
        for _ in range(count // TOGETHER):
            async with connection.transaction():
                for _ in range(TOGETHER):
                    await noop.configure(connection=connection).defer_async()


async def alone(count: int) -> None:
    for _ in range(count):
        await noop.defer_async()


async def change(count: int) -> None:
    from sqlalchemy import text

    for _ in range(count):
        async with meter.transaction() as session:
            await session.execute(text(meter.CHANGE))
            await noop.configure(connection=await meter.driver(session)).defer_async()


async def enqueue() -> None:
    async with app.open_async(), meter.attached():
        await meter.answer(together=together, alone=alone, change=change)


def main() -> None:
    asyncio.run({"work": work, "enqueue": enqueue}[sys.argv[1]]())
