"""Errors as problem+json (RFC 9457): what went wrong and what to do, never a value or a trace."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from .resources import Unavailable


def problem(
    status: int, detail: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A response of this status with the request's id in it."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
        **more,
    }
    return JSONResponse(body, status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of the application in this form."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else None
    return problem(error.status_code, detail, error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return problem(400, "The body is not valid JSON.")
    errors = [{"at": "/".join(map(str, fault["loc"])), "detail": fault["msg"]} for fault in faults]
    return problem(422, "The request does not fit the description in /openapi.json.", errors=errors)


async def _unavailable(_: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)  # noqa: S101
    structlog.get_logger().warning("resource.unavailable", resource=error.resource)
    return problem(503, f"{error}: try again.", {"Retry-After": "1"})


async def _unexpected(_: Request, __: Exception) -> Response:
    return problem(500, "The service failed; its log has this request's id.")
