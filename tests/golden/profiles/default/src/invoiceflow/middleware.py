"""Around every request: an id, a deadline, a log line and a measurement, in one layer.

Plain ASGI on purpose: each further middleware of the convenient kind would cost more than the
framework's own work on a small request.
"""

import asyncio
import re
import secrets
import time

import structlog
from prometheus_client import Histogram
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

QUIET = {"/livez", "/readyz", "/metrics"}
SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context

log = structlog.get_logger()
seconds = Histogram(
    "http_request_duration_seconds", "Time to answer a request", ["method", "route", "status"]
)


class Requests:
    """The outermost layer of the application.

    timeout: seconds that a request may take before it is cancelled and answered with 503.
    max_body: bytes of a request's body beyond which it is answered with 413.
    """

    def __init__(self, app: ASGIApp, *, timeout: float, max_body: int) -> None:
        self.app = app
        # Counts, which costs more than all of this: only for a body that came without a length.
        self.counting = RequestBodyLimitMiddleware(app, max_body)
        self.max_body = max_body
        self.timeout = timeout
        self.log = structlog.get_logger().bind()  # the proxy would bind a new one for each line
        self.measured: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        expired = False
        request_id, trace, length = _head(scope)
        header = (b"x-request-id", request_id.encode())
        structlog.contextvars.bind_contextvars(request_id=request_id, **trace)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        app = self.counting if length is None else self.app
        if length and length > self.max_body:
            app = problem(413)
        # asyncio.timeout would do the same for ten microseconds more a request.
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task  # noqa: S101

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        deadline = loop.call_later(self.timeout, expire)
        try:
            await app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if not expired:  # not by the clock: a loop that counts milliseconds may be early
                raise
            task.uncancel()
            log.warning("request.timeout", seconds=self.timeout)
            if not status:
                answer = problem(503, "The request took too long.", {"Retry-After": "1"})
                await answer(scope, receive, send_with_id)
        except Exception:
            # The application has answered with 500 already; this is the place that logs it.
            log.exception("request.failed")
        finally:
            deadline.cancel()
            self.record(scope, status, time.perf_counter() - started)

    def record(self, scope: Scope, status: int, elapsed: float) -> None:
        method = scope["method"]
        # The route's pattern, not the path: what a client makes up must not become a label.
        route = getattr(scope.get("route"), "path", "unmatched")
        key = (method if route != "unmatched" else "any", route, status)
        child = self.measured.get(key)
        if child is None:
            child = self.measured[key] = seconds.labels(*key)
        child.observe(elapsed)
        path = scope["path"]
        if path not in QUIET or status != 200:
            self.log.info(
                "request",
                method=method,
                path=path,
                status=status or None,  # None: the client left before the answer
                duration_ms=round(elapsed * 1000, 2),
            )


def _head(scope: Scope) -> tuple[str, dict[str, str], int | None]:
    """The caller's id if a log line can take it, else a new one; its trace; its body's length."""
    request_id = ""
    trace: dict[str, str] = {}
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SAFE_ID.fullmatch(value):
            request_id = bytes(value).decode()
        elif name == b"traceparent" and TRACE.fullmatch(value):
            trace = {"traceparent": bytes(value).decode()}
        elif name == b"content-length":
            length = int(value)  # the server has checked that it is a number, and the only length
        elif name == b"transfer-encoding":
            length = None
    return request_id or secrets.token_hex(16), trace, length
