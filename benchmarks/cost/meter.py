"""What every side has in common: a job that says it was done, and the cost of enqueueing it."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import import_module
from typing import Any

CHANGE = "select txid_current()"  # what a transaction writes beside the job, without a table


def done() -> None:
    """All that a job does: one byte, by which the jobs that are done can be counted."""
    os.write(_file(), b".")


async def answer(
    left: Callable[[], Awaitable[int]] | None = None, **ways: Callable[[int], Awaitable[None]]
) -> None:
    """Enqueue as many jobs as a line of input says, each way; answer with CPU-ms an enqueue.

    An empty line is answered once none of them is left on its way to the broker.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    while line := await asyncio.to_thread(sys.stdin.readline):
        costs = {}
        while left and not line.strip() and await left():  # noqa: ASYNC110  # no event says it
            await asyncio.sleep(0.05)
        for way, enqueue in ways.items() if line.strip() else ():
            before = time.process_time()
            await enqueue(int(line))
            costs[way] = (time.process_time() - before) / int(line) * 1000
        print(json.dumps(costs), file=answers, flush=True)


def attached() -> Any:
    """The resources of the service that is measured, for what the bare library has not."""
    return _module("resources").attach(_module("config").load())


def transaction() -> Any:
    return _module("postgres").transaction()


async def driver(session: Any) -> Any:
    return await _module("postgres").driver(session)


def _module(name: str) -> Any:
    return import_module(f"{os.environ['SERVICE']}.{name}")


@cache
def _file() -> int:
    return os.open(os.environ["DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
