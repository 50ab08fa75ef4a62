"""Rate limits, counted for all replicas together."""

import hashlib
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from . import redis
from .resources import Unavailable


def address(request: Request) -> str:
    """The address that the nearest proxy saw, or the peer's where no proxy is before the service.

    There a client can make one up; behind two proxies this is the outer one's: say `by` then.
    """
    seen = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    return seen or (request.client.host if request.client else "")


def limit(
    name: str, *, times: int, seconds: int, by: Callable[[Request], str] = address
) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets each caller through so many times in so many seconds, else 429.

    name: what is counted; routes that share a name share a count. by: what tells callers apart.
    While Redis is away everybody is let through: a limit is no reason to be down.
    """

    async def count(request: Request) -> None:
        caller = hashlib.sha256(by(request).encode()).hexdigest()  # as long as any other, no secret
        key = f"limit:{name}:{caller}"
        try:
            async with redis.commands() as client, client.pipeline() as counting:
                counting.set(key, 0, ex=seconds, nx=True)
                counting.incr(key)
                counting.ttl(key)
                _, counted, left = await counting.execute()
        except Unavailable:
            return
        if counted > times:
            again = {"Retry-After": str(max(left, 1))}
            raise HTTPException(429, f"At most {times} requests in {seconds} seconds.", again)

    return count
