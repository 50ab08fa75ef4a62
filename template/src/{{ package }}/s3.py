"""S3 object storage: bodies in streams, never on the disk, and no wait without a deadline."""

import asyncio
import atexit
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from .config import Settings
from .resources import Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Credential

ABORT_SECONDS = 1
BLOCK_BYTES = 256 * 1024
EXIT_SECONDS = 0.1
PART_BYTES = 5 * 1024 * 1024  # the least that S3 takes; an upload holds two of them

CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # makes the driver panic
# The driver's errors differ in their text alone. 408 and 429 ask for patience, as 5xx do.
REFUSAL = re.compile(
    r"status code: (3\d\d|4(?!08|29)\d\d)(?:.*?<Code>(\w+))?|without LOCATION", re.DOTALL
)

# A thread of the driver that is not done with an answer when Python ends aborts the process.
atexit.register(time.sleep, EXIT_SECONDS)

_places: asyncio.Semaphore
_store: S3Store
_timeout: float


class NotFound(Exception):
    """There is no object of this key."""


class Refused(Exception):
    """The server answers and refuses: trying again does not help."""


class Object(NamedTuple):
    """An object being read: its blocks are fetched as they are taken, once."""

    size: int
    content_type: str | None
    blocks: AsyncIterator[bytes]


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[None]:
    """Make the client; a connection is opened when the first request needs it."""
    global _places, _store, _timeout
    bucket, endpoint, region = settings.s3_bucket, settings.s3_endpoint, settings.s3_region
    pair = _pair(settings)
    _places = asyncio.Semaphore(settings.s3_pool_size)
    _timeout = settings.s3_timeout_seconds
    _store = S3Store(
        bucket,
        # By this name, and the key pair by a function: no AWS_ variable can change either.
        aws_endpoint_url_s3=endpoint or f"https://{bucket}.s3.{region}.amazonaws.com",
        client_options={
            "allow_http": True,  # where the endpoint says so: nothing is redirected to it
            "timeout": timedelta(days=1),  # of a whole body: each wait for a part of it is shorter
        },
        credential_provider=(lambda: pair) if pair else None,
        disable_bulk_delete=True,  # its refusals are hidden in an answer that says 200
        region=region,
        retry_config={"max_retries": 2},
        virtual_hosted_style_request=endpoint is None,
    )
    yield


def _pair(settings: Settings) -> "S3Credential | None":
    """The key pair; none is the machine's role."""
    key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    if not key or not secret:
        return None
    return {
        "access_key_id": key.get_secret_value(),
        "secret_access_key": secret.get_secret_value(),
        "expires_at": None,
    }


async def put(
    key: str, body: AsyncIterable[bytes], content_type: str = "application/octet-stream"
) -> None:
    """Write an object, whole or not at all: a body or a server that breaks off leaves none."""
    if not content_type.isascii() or CONTROL.search(content_type):
        raise ValueError("A content type is ASCII, such as application/pdf.")
    async with _place(key):
        writer = obstore.open_writer_async(
            _store,
            key,
            attributes={"Content-Type": content_type},
            buffer_size=PART_BYTES,
            max_concurrency=1,
        )
        block = bytearray()
        try:
            async for data in body:
                block += data  # collected: what each piece costs beside its bytes adds up
                if len(block) >= BLOCK_BYTES:
                    async with _answer(key):
                        await writer.write(bytes(block))
                    block.clear()
            async with _answer(key):
                await writer.write(bytes(block))
                await writer.close()
        except (Exception, asyncio.CancelledError) as error:
            with suppress(Exception):
                async with asyncio.timeout(ABORT_SECONDS):
                    await writer.__aexit__(type(error), error, None)
            raise


async def get(key: str) -> Object:
    """Open an object. Raises NotFound at once, while a response can still say so."""
    reading = _read(key)
    found: obstore.GetResult = await anext(reading)
    return Object(found.meta["size"], found.attributes.get("Content-Type"), reading)


async def _read(key: str) -> AsyncGenerator[Any]:
    """The answer, then the blocks: one generator, which gives its place back when let go."""
    async with _place(key):
        async with _answer(key):
            found = await obstore.get_async(_store, key)
        yield found
        blocks = found.stream(BLOCK_BYTES)
        while True:
            async with _answer(key):
                block = await anext(blocks, None)
            if block is None:
                return
            yield block


async def size(key: str) -> int | None:
    """The bytes of an object; None if there is none."""
    with suppress(NotFound):
        async with _answer(key), _places:
            return (await obstore.head_async(_store, key))["size"]
    return None


async def delete(key: str) -> None:
    """Remove an object, if there is one."""
    async with _answer(key), _places:
        await obstore.delete_async(_store, key)


async def presign(
    method: Literal["GET", "PUT"], key: str, expires_in: timedelta = timedelta(minutes=5)
) -> str:
    """A URL that lets whoever has it do this, and nothing else, until it expires."""
    if not timedelta(seconds=1) <= expires_in <= timedelta(days=7):
        raise ValueError("A presigned URL is good for 1 second to 7 days.")
    async with _answer(key):
        return await obstore.sign_async(_store, method, key, expires_in)


async def ping() -> None:
    """Raise unless the server has the bucket and the key pair may list it."""
    async with _answer(".ping"):
        await obstore.list_with_delimiter_async(_store, ".ping")


@asynccontextmanager
async def _place(key: str) -> AsyncIterator[None]:
    """One of S3_POOL_SIZE."""
    async with _answer(key):
        await _places.acquire()
    try:
        yield
    finally:
        _places.release()


@asynccontextmanager
async def _answer(key: str) -> AsyncIterator[None]:
    """A wait with a deadline, and what its end means to the caller."""
    names = key.split("/")
    if not {"", ".", ".."}.isdisjoint(names) or CONTROL.search(key):  # no name: the bucket itself
        raise ValueError("A key is names, none . or .., with one / between them, in plain text.")
    try:
        async with asyncio.timeout(_timeout):
            yield
    except (BaseError, OSError) as error:
        refusal = REFUSAL.search(str(error))
        if not refusal:
            raise Unavailable("s3") from error
        status, code = refusal.groups()
        if status == "404" and code != "NoSuchBucket":
            raise NotFound(key) from error
        raise Refused(
            f"s3 refuses, {code or status or 'redirects'}: "
            "check S3_BUCKET, S3_REGION, S3_ENDPOINT and the access key"
        ) from error
