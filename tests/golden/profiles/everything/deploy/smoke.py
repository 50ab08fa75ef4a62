"""What runs behind a URL answers as it should; nothing is written there."""

import json
import os
import secrets
import time
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .project import Failed

SECONDS = 60
EVERY_SECONDS = 0.2
REQUEST_SECONDS = 5

Answer = tuple[int, Message, bytes]


def smoke(url: str, release: str | None = None) -> str:
    """Wait until all of this is so, and say so; raises Failed with what is not.

    release: the id that /version must give. DELIVERY_SECONDS: the longest wait for all of it.
    """
    deadline = time.monotonic() + float(os.environ.get("DELIVERY_SECONDS") or SECONDS)
    for check in (_alive, _ready, lambda url: _version(url, release), _unknown_page):
        _until(check, url.rstrip("/"), deadline)
    return f"{url} is well{f' and runs {release}' if release else ''}"


def _alive(url: str) -> str:
    status, _, _ = _get(f"{url}/livez")
    return "" if status == 200 else f"/livez answers {status}"


def _ready(url: str) -> str:
    status, _, body = _get(f"{url}/readyz")
    return "" if status == 200 else f"/readyz answers {status}: {body[:100]!r}"


def _version(url: str, release: str | None) -> str:
    status, _, body = _get(f"{url}/version")
    if status != 200:
        return f"/version answers {status}"
    runs = json.loads(body).get("release")
    return "" if release in (None, runs) else f"/version says {runs}, not {release}"


def _unknown_page(url: str) -> str:
    name = f"smoke-{secrets.token_hex(8)}"
    status, headers, _ = _get(f"{url}/{name}", {"X-Request-ID": name})
    kind, echo = headers.get_content_type(), headers.get("X-Request-ID")
    wanted = (404, "application/problem+json", name)
    found = (status, kind, echo)
    return "" if found == wanted else f"an unknown page answers {found}, not {wanted}"


def _get(url: str, headers: dict[str, str] | None = None) -> Answer:
    try:
        with urlopen(Request(url, headers=headers or {}), timeout=REQUEST_SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def _until(check: Callable[[str], str], url: str, deadline: float) -> None:
    while True:
        try:
            wrong = check(url)
        except (OSError, HTTPException, ValueError) as error:
            wrong = f"no good answer: {error}"
        if not wrong:
            return
        if time.monotonic() > deadline:
            raise Failed(f"{url}: {wrong}")
        time.sleep(EVERY_SECONDS)
