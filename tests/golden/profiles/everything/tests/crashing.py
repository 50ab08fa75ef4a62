"""A worker process with jobs for the tests: `python -m tests.crashing`."""

import os
import signal
import sys

from invoiceflow import __main__, queue


@queue.job()
async def note(word: str) -> None:
    pass


@queue.job(attempts=3)
async def poison() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # Its jobs are known by the name of this module, not as __main__'s.
    import tests.crashing  # noqa: F401

    sys.argv[1:] = ["worker"]
    sys.exit(__main__.main())
