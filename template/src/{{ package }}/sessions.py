"""Login sessions, shared by all replicas: the client has a token, Redis only its hash."""

import hashlib
import secrets
import time
from typing import Annotated

import orjson
from fastapi import Depends, HTTPException, Response
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from . import redis

COOKIE = "__Host-session"  # by this prefix a browser takes it from this host alone, and Secure
IDLE_SECONDS = 24 * 3600
MAX_SECONDS = 14 * 24 * 3600

by_header = HTTPBearer(auto_error=False)
by_cookie = APIKeyCookie(name=COOKIE, auto_error=False)


async def presented(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(by_header)],
    cookie: Annotated[str | None, Depends(by_cookie)],
) -> str | None:
    """The token of a request: `Authorization: Bearer` before the cookie."""
    return bearer.credentials if bearer else cookie


Token = Annotated[str | None, Depends(presented)]


async def logged_in(token: Token) -> str:
    """Who asks; 401 if nobody is logged in."""
    user = await get(token) if token else None
    if user is None:
        raise HTTPException(401, "Log in first.", {"WWW-Authenticate": "Bearer"})
    return user


User = Annotated[str, Depends(logged_in)]
"""For a route: `async def mine(user: User)`."""


async def log_in(response: Response, user: str, token: str | None) -> str:
    """Begin a session of a user who has proved to be that; returns the token that the cookie has.

    token: what the request presented. It ends here: one that somebody planted gains nothing.
    """
    if token:
        await end(token)
    token = await create(user)
    response.set_cookie(
        COOKIE, token, max_age=MAX_SECONDS, httponly=True, samesite="lax", secure=True
    )
    return token


async def log_out(response: Response, token: str | None) -> None:
    if token:
        await end(token)
    response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=True)


async def create(user: str) -> str:
    token = secrets.token_urlsafe()
    session = {"user": user, "until": time.time() + MAX_SECONDS}
    async with redis.commands() as client:
        await client.set(_name(token), orjson.dumps(session), ex=IDLE_SECONDS)
    return token


async def get(token: str) -> str | None:
    """The user, and IDLE_SECONDS more until MAX_SECONDS have passed."""
    async with redis.commands() as client:
        found = await client.getex(_name(token), ex=IDLE_SECONDS)
    session = orjson.loads(found) if found else {}
    return session["user"] if session and time.time() < session["until"] else None


async def end(token: str) -> None:
    async with redis.commands() as client:
        await client.delete(_name(token))


def _name(token: str) -> str:
    return f"session:{hashlib.sha256(token.encode()).hexdigest()}"
