"""Accounts: who may log in, and how their passwords are kept. Knows no framework."""

import asyncio
import hashlib
import hmac
import secrets
import uuid
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TIMESTAMP

from ..postgres import Base

# 16 MB and a tenth of a second a guess. Each hash says its own: they may be raised at any time.
COST = (2**14, 8, 5)
NOBODY = "$".join(("scrypt", *map(str, COST), "00" * 16, ""))  # what no password fits


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.now()
    )


async def create(session: AsyncSession, *, email: str, password_hash: str) -> Account | None:
    """A new account; None if there is one of this e-mail."""
    statement = upsert(Account).values(email=email, password_hash=password_hash)
    created = await session.scalars(statement.on_conflict_do_nothing().returning(Account))
    return created.first()


async def get(session: AsyncSession, account_id: uuid.UUID) -> Account | None:
    return await session.get(Account, account_id)


async def find(session: AsyncSession, *, email: str) -> Account | None:
    return (await session.scalars(select(Account).where(Account.email == email))).first()


async def hash_password(password: str) -> str:
    salt = secrets.token_bytes(16)
    digest = await _scrypt(password, salt, *COST)
    return "$".join(("scrypt", *map(str, COST), salt.hex(), digest.hex()))


async def fits(password: str, password_hash: str) -> bool:
    """Whether this is the password. NOBODY takes as long as others, and so tells nothing."""
    _, n, r, p, salt, digest = password_hash.split("$")
    found = await _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(digest))


async def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # In a thread, or every other request would wait for it.
    return await asyncio.to_thread(
        hashlib.scrypt, password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2**28
    )
