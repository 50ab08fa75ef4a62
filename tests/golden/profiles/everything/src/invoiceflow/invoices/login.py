"""Accounts and login sessions through the API: any replica takes any session."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from .. import sessions
from ..limits import limit
from ..postgres import transaction
from . import accounts

# Each try costs a hash: passwords are not to be guessed here, nor processors kept busy.
router = APIRouter(tags=["login"])
limited = [Depends(limit("login", times=10, seconds=60))]


class Credentials(BaseModel):
    email: Annotated[
        str,
        StringConstraints(
            strip_whitespace=True,
            to_lower=True,
            max_length=254,
            pattern=r"^[^@\s\x00]+@[^@\s\x00]+$",
        ),
    ]
    password: Annotated[SecretStr, Field(max_length=200)]


class NewAccount(Credentials):
    password: Annotated[SecretStr, Field(min_length=12, max_length=200)]


class Account(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    email: str


class Session(BaseModel):
    """A browser has it in a cookie; others send it as `Authorization: Bearer TOKEN`."""

    token: str


@router.post("/accounts", status_code=201, dependencies=limited)
async def sign_up(new: NewAccount) -> Account:
    # Before the transaction: it would hold a connection for as long as this takes.
    password_hash = await accounts.hash_password(new.password.get_secret_value())
    async with transaction() as session:
        account = await accounts.create(session, email=new.email, password_hash=password_hash)
    if account is None:
        raise HTTPException(409, "There is an account of this e-mail: log in.")
    return Account.model_validate(account)


@router.post("/login", dependencies=limited)
async def log_in(given: Credentials, response: Response, token: sessions.Token) -> Session:
    async with transaction() as session:
        account = await accounts.find(session, email=given.email)
    kept = account.password_hash if account else accounts.NOBODY
    fits = await accounts.fits(given.password.get_secret_value(), kept)
    if account is None or not fits:
        raise HTTPException(401, "The e-mail or the password is wrong.")
    return Session(token=await sessions.log_in(response, str(account.id), token))


@router.get("/me")
async def me(user: sessions.User) -> Account:
    async with transaction() as session:
        account = await accounts.get(session, uuid.UUID(user))
    if account is None:
        raise HTTPException(401, "This account is gone.")
    return Account.model_validate(account)


@router.post("/logout", status_code=204)
async def log_out(response: Response, token: sessions.Token) -> None:
    await sessions.log_out(response, token)
