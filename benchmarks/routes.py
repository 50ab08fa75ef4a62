"""The handlers that are measured; run alone, they are the bare application to compare with.

Goes into the generated service, where FastAPI is installed.
"""

import asyncio
import os
from typing import Annotated

import uvicorn
from fastapi import APIRouter, FastAPI, Path, Query
from pydantic import BaseModel

SLOW_SECONDS = 2

router = APIRouter()
running = 0


class Item(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]
    available: bool


@router.get("/items/{number}")
async def item(number: Annotated[int, Path(ge=1)], price: Annotated[float, Query(gt=0)]) -> Item:
    return Item(id=number, name="teapot", price=price, tags=["kitchen"], available=True)


@router.get("/slow")
async def slow() -> None:
    global running
    running += 1
    await asyncio.sleep(SLOW_SECONDS)


@router.get("/running")
async def how_many() -> int:
    return running


app = FastAPI()
app.include_router(router)

if __name__ == "__main__":
    # As web.py has it: what differs is the service's own work, not these choices.
    uvicorn.run(
        app,
        access_log=False,
        http="httptools",
        log_level="warning",
        loop="uvloop",
        port=int(os.environ["PORT"]),
        proxy_headers=False,
        server_header=False,
    )
