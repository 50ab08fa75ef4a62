"""A sign of life for processes that listen nowhere: a file that is touched while the loop turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .config import Settings

EVERY_SECONDS = 5


@asynccontextmanager
async def beating(settings: Settings) -> AsyncIterator[None]:
    """Touch HEARTBEAT_FILE as long as the block runs, if one is set."""
    beat = asyncio.create_task(_beat(Path(settings.heartbeat_file)))
    try:
        yield
    finally:
        beat.cancel()


async def _beat(file: Path) -> None:
    while file.name:
        file.touch()  # noqa: ASYNC240  # in memory, where it takes no time
        await asyncio.sleep(EVERY_SECONDS)
