"""The web process: the application and the server that runs it (factor VII)."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
import uvicorn
from fastapi import FastAPI

from . import health, parts, problems, resources, server
from .config import Settings
from .middleware import Requests

log = structlog.get_logger()


def create(settings: Settings) -> FastAPI:
    """The application, with its resources attached while it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def reach() -> None:
            await resources.reached()
            app.state.health.reached = True

        async with resources.attach(settings):
            reaching = asyncio.create_task(reach())
            yield
            reaching.cancel()
            with suppress(asyncio.CancelledError):
                await reaching

    app = FastAPI(
        title=str(__package__).replace("_", "-"),
        version=settings.revision,
        lifespan=lifespan,
        # Asked for on every request otherwise, which costs more than the access line.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.health = health.State(revision=settings.revision, release=settings.release_id)
    problems.install(app)
    for module in resources.load(parts.ROUTES):
        app.include_router(module.router)
    app.include_router(health.router)  # last: routes are tried one after the other
    return app


def main(settings: Settings) -> int:
    app = create(settings)
    config = uvicorn.Config(
        Requests(app, timeout=settings.request_timeout_seconds, max_body=settings.max_body_bytes),
        access_log=False,
        http=server.Protocol,
        lifespan="on",
        log_config=None,
        loop="uvloop",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
        timeout_keep_alive=server.KEEP_ALIVE_SECONDS,
        ws="none",
    )

    def drain() -> None:
        app.state.health.draining = True

    try:
        listener = server.listen(settings.port)
    except OSError as error:
        hint = f"Set PORT to a free port, or stop what listens on {settings.port}."
        log.error("web.cannot_listen", port=settings.port, reason=error.strerror, hint=hint)
        return 1
    web = server.Server(config, drain_seconds=settings.drain_seconds, on_drain=drain)
    web.run([listener])
    return 0
