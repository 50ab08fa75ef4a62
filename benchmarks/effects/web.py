"""An order and the job it causes: both or none."""

from fastapi import APIRouter
from sqlalchemy import text

from ..postgres import transaction
from . import jobs

router = APIRouter()


@router.post("/orders/{key}", status_code=201)
async def order(key: str) -> None:
    async with transaction() as session:
        await session.execute(text("insert into orders (key) values (:key)"), {"key": key})
        await jobs.work.enqueue(session, key, 0)
