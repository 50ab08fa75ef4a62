"""A job that does nothing, by celery: its own command runs it; run as a script, it enqueues."""

import asyncio
import os

import meter
from celery import Celery

URL = os.environ[f"{os.environ['BROKER'].upper()}_URL"]

app = Celery("on_celery", broker=URL)
app.conf.task_ignore_result = True


@app.task
def noop() -> None:
    meter.done()


async def alone(count: int) -> None:
    for _ in range(count):
        noop.delay()


if __name__ == "__main__":
    asyncio.run(meter.answer(alone=alone))
