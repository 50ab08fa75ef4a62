"""Probes and identity (factors IX and I).

Alive: the event loop turns. Ready: this process has reached its resources once and is not
draining. Neither follows a shared resource afterwards, or one outage would take every replica
out of service at once; requests that need it are answered with 503 meanwhile.
"""

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from . import parts, resources

router = APIRouter(include_in_schema=False)


@dataclass
class State:
    """What the probes look at."""

    revision: str
    release: str
    reached: bool = False
    draining: bool = False


@router.get("/livez")
async def live() -> JSONResponse:
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
async def ready(request: Request) -> JSONResponse:
    state: State = request.app.state.health
    if state.draining:
        return JSONResponse({"status": "draining"}, 503)
    if not state.reached:
        return JSONResponse({"status": "waiting for its resources"}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/version")
async def version(request: Request) -> JSONResponse:
    state: State = request.app.state.health
    return JSONResponse({"revision": state.revision, "release": state.release})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    for part in resources.load(parts.METRICS):
        await part.measure(request.app.state.settings)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
