"""Beside the processes: make the store, enqueue jobs, tell what became of them."""

import asyncio
import json
import os
import random
import sys
import time

from .. import config, resources
from . import brokers, jobs, store

make = store.make


async def enqueue(prefix: str, count: str, over: str, longest: str, seed: str) -> None:
    """Enqueue so many jobs over so many seconds, each of a random length, each until accepted."""
    began, random_ = time.monotonic(), random.Random(seed)  # noqa: S311
    for number in range(int(count)):
        due = began + number * float(over) / int(count)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await accepted(jobs.work, f"{prefix}-{number}", random_.uniform(0, float(longest)))


async def hold(prefix: str, count: str, seconds: str) -> None:
    """Enqueue so many jobs of one length."""
    for number in range(int(count)):
        await accepted(jobs.work, f"{prefix}-{number}", float(seconds))


async def poison(good: str) -> None:
    """Enqueue a job that kills its worker, in the middle of good ones."""
    for number in range(int(good)):
        if number == int(good) // 2:
            await store.enqueue(jobs.poison)
        await accepted(jobs.work, f"good-{number}", 0.5)


async def accepted(job: object, key: str, seconds: float) -> None:
    while True:
        try:
            await store.enqueue(job, key, seconds)
        except Exception:
            await asyncio.sleep(0.1)  # the broker is away: a caller would try again too
        else:
            jobs.note("accepted", 0, key)
            return


async def tell() -> None:
    """Answer each line of input with a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    while await asyncio.to_thread(sys.stdin.readline):
        while True:
            try:
                answer = await store.told() | await getattr(brokers, os.environ["BROKER"])()
                break
            except Exception as error:
                print(error, file=sys.stderr)
                await asyncio.sleep(0.2)
        print(json.dumps(answer), file=answers, flush=True)


async def main(name: str, *arguments: str) -> None:
    async with resources.attach(config.load()):
        await globals()[name](*arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
