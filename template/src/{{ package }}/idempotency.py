"""`Idempotency-Key`: a POST that is sent again counts once, and gets the answer that it missed.

The answer is kept in Redis, beside the work and not with it: a process that is killed between
the two leaves a key that soon counts again. Where twice must never be, let the database hold
something unique as well.
"""

import hashlib
import re
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import structlog
from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from . import redis, sessions
from .config import Settings
from .resources import Unavailable

KEEP_SECONDS = 24 * 3600
KEY = re.compile(r"[ -~]{1,255}")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

log = structlog.get_logger()


class Idempotent(APIRoute):
    """For `APIRouter(route_class=Idempotent)`: its routes heed the key of a POST that has one.

    Their answers are kept whole, so none may stream.
    """

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if key is None or request.method != "POST":
                return await handler(request)
            if not KEY.fullmatch(key):
                raise HTTPException(400, "An Idempotency-Key has 1 to 255 printable characters.")
            return await _once(key, request, handler)

        return handle


async def _once(key: str, request: Request, handler: Handler) -> Response:
    settings: Settings = request.app.state.settings
    name = f"idempotency:{_digest(request.url.path, await _caller(request), key)}"
    asked = _digest(request.url.query, await request.body())
    # Longer than a request may take: nobody else begins while this one works.
    seconds = round(settings.request_timeout_seconds) + 5
    async with redis.commands() as client:
        running = orjson.dumps({"asked": asked})
        found = await client.set(name, running, ex=seconds, get=True, nx=True)
    if isinstance(found, bytes):
        return _again(found, asked)
    try:
        answer = await handler(request)
    except Exception:  # not if it is cancelled: then nobody knows how far it came
        await _settle(name, None)
        raise
    if answer.status_code < 500:
        head = {"asked": asked, "status": answer.status_code, "headers": answer.headers.items()}
        await _settle(name, orjson.dumps(head) + b"\n" + bytes(answer.body))
    else:
        await _settle(name, None)
    return answer


def _again(found: bytes, asked: str) -> Response:
    """The first answer to the same request."""
    head, _, body = found.partition(b"\n")
    first = orjson.loads(head)
    if first["asked"] != asked:
        raise HTTPException(422, "This Idempotency-Key came with another request before.")
    if "status" not in first:
        wait = {"Retry-After": "1"}
        raise HTTPException(409, "The first request of this Idempotency-Key is not done.", wait)
    answer = Response(body, first["status"])
    del answer.headers["content-length"]
    for name, value in [*first["headers"], ("Idempotent-Replayed", "true")]:
        answer.headers.append(name, value)
    return answer


async def _settle(name: str, answer: bytes | None) -> None:
    """Keep the answer; without one nothing was done, and the next attempt is a first one."""
    try:
        async with redis.commands() as client:
            if answer:
                await client.set(name, answer, ex=KEEP_SECONDS)
            else:
                await client.delete(name)
    except Unavailable:  # the caller gets to know how it went all the same
        log.warning("idempotency.not_kept")


async def _caller(request: Request) -> str:
    """The user of the session, else whatever the request says who it is."""
    token = await sessions.presented(
        await sessions.by_header(request), await sessions.by_cookie(request)
    )
    user = await sessions.get(token) if token else None
    return f"user {user}" if user else f"other {request.headers.get('authorization')}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
