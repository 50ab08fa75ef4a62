"""Effects in PostgreSQL: a unique key in the same transaction as the effect."""

from typing import Any

from sqlalchemy import text

from ..postgres import transaction

TABLES = """
create table effects (key text primary key);
create table ledger (key text not null);
create table orders (key text primary key);
"""
ONCE = "insert into effects (key) values (:key) on conflict do nothing returning true"


async def make() -> None:
    async with transaction() as session:
        for statement in TABLES.strip().splitlines():
            await session.execute(text(statement))


async def count(key: str) -> bool:
    """Have the effect; False if it was there before."""
    async with transaction() as session:
        new = await session.scalar(text(ONCE), {"key": key})
        if new:
            await session.execute(text("insert into ledger (key) values (:key)"), {"key": key})
    return bool(new)


async def enqueue(job: Any, *arguments: Any) -> None:
    async with transaction() as session:
        await job.enqueue(session, *arguments)


async def told() -> dict[str, list[str]]:
    """Every effect as often as it counted, every order."""
    async with transaction() as session:
        return {
            "effects": list(await session.scalars(text("select key from ledger"))),
            "orders": list(await session.scalars(text("select key from orders"))),
        }
