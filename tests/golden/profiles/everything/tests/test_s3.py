import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from httpx2 import AsyncClient
from structlog.testing import capture_logs

from invoiceflow import config, resources, s3
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from dev.__main__ import ONE_OFF
from dev.s3 import fresh, run
from tests.pipe import Pipe, pipe
from tests.running import COMMANDS, Start, free_port, until

SMALL = b"a body in one piece"
PIECES = [bytes([number]) * 100_000 for number in range(250)]  # five parts, each piece its own
LARGE = b"".join(PIECES)

CALLS: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
    "put": lambda: s3.put("call", stream(SMALL)),
    "get": lambda: read("call"),
    "size": lambda: s3.size("call"),
    "delete": lambda: s3.delete("call"),
    "ping": s3.ping,
}


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def broken() -> AsyncIterator[bytes]:
    for piece in PIECES:
        yield piece
    raise ConnectionResetError


async def read(key: str) -> bytes:
    return b"".join([block async for block in (await s3.get(key)).blocks])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server of this module's own, whatever is attached: it is reached through a pipe."""
    with run(tmp_path_factory.mktemp("s3")) as variables:
        yield variables


@pytest.fixture
def own(settings: Settings, server: dict[str, str]) -> Settings:
    return at(settings, server)


def at(settings: Settings, server: dict[str, str]) -> Settings:
    """These settings, on this server."""
    values = {name.lower(): value for name, value in server.items()}
    return Settings(**settings.model_dump() | values)


@asynccontextmanager
async def changed(settings: Settings, **values: object) -> AsyncIterator[None]:
    """Attached with some settings changed."""
    async with s3.connect(Settings(**settings.model_dump() | values)):
        yield


@asynccontextmanager
async def cuttable(own: Settings) -> AsyncIterator[Pipe]:
    """The server through a pipe, with a short deadline."""
    async with (
        pipe(str(own.s3_endpoint)) as between,
        changed(own, s3_endpoint=between.url, s3_timeout_seconds=0.5),
    ):
        yield between


@asynccontextmanager
async def answering(
    answer: bytes, allowed: asyncio.Semaphore | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers everything with this, as soon as it may: its URL, the requests."""
    head = b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    requests: list[bytes] = []
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.read(65536))
        if allowed:
            await allowed.acquire()
        writer.write(head)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(
        lambda *ends: serving.append(asyncio.create_task(serve(*ends))), "127.0.0.1", 0
    ) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    await asyncio.gather(*serving)


@pytest.mark.parametrize(
    ("name", "malformed"),
    [
        ("S3_BUCKET", "No Bucket"),
        ("S3_REGION", "us east"),
        ("S3_ENDPOINT", "127.0.0.1:9000"),
        ("S3_ENDPOINT", "http://"),
        ("S3_ENDPOINT", "http://:9000"),
        ("S3_ENDPOINT", "http://me:word@x"),
        ("S3_ENDPOINT", "http://x:y"),
        ("S3_SECRET_ACCESS_KEY", ""),
    ],
)
def test_a_malformed_variable_is_named(
    unattached: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, malformed: str
) -> None:
    for variable, value in (unattached | {name: malformed}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(config.Invalid) as raised:
        config.load()
    assert list(raised.value.names["malformed"]) == [name]


@pytest.mark.parametrize("pieces", [[], [SMALL], PIECES], ids=["empty", "small", "large"])
async def test_a_body_comes_back_as_it_went(attached: Settings, pieces: list[bytes]) -> None:
    await s3.put("a/b", stream(*pieces), "text/x-test")
    assert await s3.size("a/b") == len(b"".join(pieces))

    found = await s3.get("a/b")
    assert (found.size, found.content_type) == (len(b"".join(pieces)), "text/x-test")
    assert b"".join([block async for block in found.blocks]) == b"".join(pieces)


async def test_a_new_body_takes_the_place_of_the_old(attached: Settings) -> None:
    await s3.put("again", stream(*PIECES))
    await s3.put("again", stream(SMALL))
    assert await read("again") == SMALL


def script(environment: dict[str, str], lines: str) -> str:
    """What a program prints whose main function is this; it ends with 0."""
    code = f"""if True:
        import asyncio, resource
        from invoiceflow import config, s3

        async def body(megabytes):
            for _ in range(megabytes):
                yield bytes(1_000_000)

        async def peak(megabytes):
            await s3.put("memory", body(megabytes))
            async for block in (await s3.get("memory")).blocks:
                megabytes -= len(block) / 1_000_000
            assert round(megabytes, 6) == 0
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        async def main():
            async with s3.connect(config.load()):
                {lines}

        asyncio.run(main())
    """
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, check=True
    ).stdout.decode()


def test_memory_does_not_grow_with_the_body(environment: dict[str, str]) -> None:
    printed = script(environment, "print(await peak(20), await peak(200))")
    some, ten_times_as_much = map(int, printed.split())
    assert ten_times_as_much < some * 1.5


def test_a_process_may_end_with_its_last_answer(environment: dict[str, str]) -> None:
    for _ in range(8):  # of which most would abort
        script(environment, 'await s3.put("last", body(1))')


@pytest.mark.parametrize("key", ["ä b", "a+b%20c", "q?x=1&y#z", "v1.0/~tilde_-(1).pdf"])
async def test_a_key_may_have_any_letter(attached: Settings, key: str) -> None:
    await s3.put(key, stream(SMALL))
    assert await read(key) == SMALL
    async with AsyncClient() as anybody:
        assert (await anybody.get(await s3.presign("GET", key))).content == SMALL


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", "../a", "a\nb"])
async def test_what_is_no_key_is_refused_before_it_reaches_the_server(
    attached: Settings, key: str
) -> None:
    calls = [
        s3.put(key, stream()),
        s3.get(key),
        s3.size(key),
        s3.delete(key),
        s3.presign("GET", key),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="A key is"):
            await call


@pytest.mark.parametrize("content_type", ["text/plain\r\nX-Other: 1", "text/ä"])
async def test_a_content_type_that_is_none_is_refused_before_it_reaches_the_server(
    attached: Settings, content_type: str
) -> None:
    with pytest.raises(ValueError, match="A content type is"):
        await s3.put("type", stream(SMALL), content_type)


async def test_a_missing_object_is_said_to_be_missing(attached: Settings) -> None:
    with pytest.raises(s3.NotFound, match="not-here"):
        await s3.get("not-here")
    assert await s3.size("not-here") is None
    await s3.delete("not-here")


async def test_a_deleted_object_is_gone_and_the_bucket_stays(attached: Settings) -> None:
    await s3.put("folder/only", stream(SMALL))
    await s3.delete("folder/only")
    assert await s3.size("folder/only") is None
    await s3.ping()


async def test_an_upload_that_breaks_off_leaves_nothing_behind(
    settings: Settings, tmp_path: Path
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece
        await asyncio.Event().wait()

    def kept() -> list[str]:
        return [path.name for path in (tmp_path / "data" / "development").iterdir()]

    with run(tmp_path) as server:
        async with s3.connect(at(settings, server)):
            await s3.put("kept", stream(SMALL))
            with pytest.raises(ConnectionResetError):
                await s3.put("kept", broken())
            assert kept() == ["kept"]

            cancelled = asyncio.create_task(s3.put("kept", endless()))
            await until(lambda: len(kept()) > 1)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert kept() == ["kept"]
            assert await read("kept") == SMALL


async def test_a_presigned_url_does_what_it_was_signed_for_and_no_more(attached: Settings) -> None:
    put, get = await s3.presign("PUT", "signed"), await s3.presign("GET", "signed")
    async with AsyncClient() as anybody:
        sent = await anybody.put(put, content=LARGE, headers={"Content-Type": "text/x-test"})
        assert sent.status_code == 200
        found = await anybody.get(get)
        assert (found.content, found.headers["content-type"]) == (LARGE, "text/x-test")

        await s3.put("other", stream(SMALL))
        for wrong in (
            anybody.put(get, content=b"else"),
            anybody.get(put),
            anybody.get(get.replace("/signed?", "/other?")),
            anybody.get(get.replace("Expires=300", "Expires=3000")),
            anybody.get(get.partition("?")[0]),
        ):
            assert (await wrong).status_code in (400, 403)
    assert await read("signed") == LARGE


async def test_a_presigned_url_expires(attached: Settings) -> None:
    await s3.put("signed", stream(SMALL))
    url = await s3.presign("GET", "signed", timedelta(seconds=1))
    async with AsyncClient() as anybody:

        async def refused() -> bool:
            return (await anybody.get(url)).status_code in (400, 403)

        await until(refused)
    for wrong in (timedelta(0), timedelta(milliseconds=999), timedelta(days=7, seconds=1)):
        with pytest.raises(ValueError, match="7 days"):
            await s3.presign("GET", "signed", wrong)


async def test_aws_is_addressed_by_the_buckets_host_and_another_server_by_path(
    settings: Settings,
) -> None:
    async with changed(settings, s3_bucket="ours", s3_region="eu-north-1", s3_endpoint=None):
        aws = urlsplit(await s3.presign("GET", "a/b"))
    assert aws[:3] == ("https", "ours.s3.eu-north-1.amazonaws.com", "/a/b")
    assert "%2Feu-north-1%2Fs3%2F" in aws.query

    async with changed(settings, s3_bucket="ours", s3_endpoint="https://minio:9000/"):
        other = urlsplit(await s3.presign("GET", "a/b"))
    assert other[:3] == ("https", "minio:9000", "/ours/a/b")


async def test_the_machines_own_aws_variables_change_nothing(
    attached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "other")
    async with s3.connect(attached):
        await s3.ping()
        assert "Token" not in await s3.presign("GET", "a")


@pytest.mark.parametrize("call", CALLS)
async def test_a_wrong_key_pair_is_one_clear_error(own: Settings, call: str) -> None:
    async with changed(own, s3_secret_access_key="wrong"):
        with pytest.raises(s3.Refused, match=r"check S3_BUCKET.* and the access key$"):
            await CALLS[call]()


@pytest.mark.parametrize("call", ["put", "get", "ping"])
async def test_a_missing_bucket_is_one_clear_error(own: Settings, call: str) -> None:
    async with changed(own, s3_bucket="not-here"):
        with pytest.raises(s3.Refused, match="NoSuchBucket: check S3_BUCKET"):
            await CALLS[call]()


@pytest.mark.parametrize(
    ("answer", "means", "requests"),
    [
        (b"500 Internal Server Error", Unavailable, 3),
        (b"503 Slow Down", Unavailable, 3),
        (b"429 Too Many Requests", Unavailable, 3),
        (b"400 Bad Request", s3.Refused, 1),
        (b"301 Moved Permanently", s3.Refused, 1),
    ],
)
async def test_a_server_in_trouble_is_asked_again_and_one_that_refuses_is_not(
    own: Settings, answer: bytes, means: type[Exception], requests: int
) -> None:
    async with answering(answer) as (url, seen), changed(own, s3_endpoint=url):
        with pytest.raises(means):
            await s3.ping()
    assert len(seen) == requests


async def test_a_delete_that_is_refused_is_no_success(own: Settings) -> None:
    async with answering(b"403 Forbidden") as (url, seen), changed(own, s3_endpoint=url):
        with pytest.raises(s3.Refused, match="403"):
            await s3.delete("kept")
    assert seen[0].startswith(b"DELETE /development/kept ")


@pytest.mark.parametrize("call", CALLS)
async def test_an_outage_is_said_and_ends_without_a_restart(own: Settings, call: str) -> None:
    async with cuttable(own) as between:
        await s3.put("call", stream(SMALL))
        await between.cut()
        with pytest.raises(Unavailable):
            await CALLS[call]()
        await between.open()
        await CALLS[call]()


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_hangs_holds_nobody_past_the_deadline(own: Settings, call: str) -> None:
    async with cuttable(own) as between:
        await s3.put("call", stream(SMALL))
        between.hang()
        waiting = [asyncio.create_task(CALLS[call]()) for _ in range(own.s3_pool_size * 2)]
        done, pending = await asyncio.wait(waiting, timeout=10)
        assert not pending
        assert all(isinstance(task.exception(), Unavailable) for task in done)
        between.flow()
        await CALLS[call]()


async def test_a_server_that_hangs_in_the_middle_of_a_body_holds_nobody_either(
    own: Settings,
) -> None:
    async with cuttable(own) as between:
        await s3.put("large", stream(*PIECES))
        found = await s3.get("large")
        await anext(found.blocks)
        between.hang()
        with pytest.raises(Unavailable):
            async for _ in found.blocks:
                pass
        between.flow()

        async def body() -> AsyncIterator[bytes]:
            for piece in PIECES[:125]:
                yield piece
            between.hang()
            for piece in PIECES[125:]:
                yield piece

        with pytest.raises(Unavailable):
            await s3.put("large", body())


async def test_a_download_that_is_cut_goes_on_where_it_was(own: Settings) -> None:
    async with cuttable(own) as between:
        await s3.put("large", stream(*PIECES))
        found = await s3.get("large")
        blocks = [await anext(found.blocks)]
        await between.cut()
        await between.open()
        blocks += [block async for block in found.blocks]
    assert b"".join(blocks) == LARGE


async def test_a_process_waits_for_its_storage_and_then_goes_on(
    attached: Settings, own: Settings
) -> None:
    async with cuttable(own) as between:
        await between.cut()
        with capture_logs() as lines:
            reached = asyncio.create_task(resources.reached())
            await until(lambda: "resource.waiting" in {line["event"] for line in lines})
            await between.open()
            await until(reached.done)

    said = [(line["event"], line.get("resource")) for line in lines]
    assert [one for one in said if one[0].startswith("resource")] == [
        ("resource.waiting", "s3"),
        ("resources.reached", None),
    ]


async def test_a_process_holds_no_more_connections_than_its_pool(own: Settings) -> None:
    allowed = asyncio.Semaphore(0)
    async with (
        answering(b"404 Not Found", allowed) as (url, seen),
        changed(own, s3_endpoint=url, s3_pool_size=2),
    ):
        calls = [asyncio.create_task(s3.size(f"{number}")) for number in range(6)]
        for arrived in range(2, 7):
            await until(partial(lambda least: len(seen) >= least, arrived))
            assert len(seen) == arrived
            allowed.release()
        allowed.release()
        assert await asyncio.gather(*calls) == [None] * 6


async def test_a_download_that_is_let_go_gives_its_place_back(own: Settings) -> None:
    async with changed(own, s3_pool_size=1):
        await s3.put("large", stream(*PIECES))
        await anext((await s3.get("large")).blocks)
        await s3.get("large")
        assert await s3.size("large") == len(LARGE)


@pytest.mark.parametrize("process", sorted(COMMANDS.keys() - ONE_OFF))
async def test_a_storage_that_hangs_from_the_start_holds_neither_probes_nor_sigterm(
    environment: dict[str, str], server: dict[str, str], start: Start, process: str
) -> None:
    port = free_port()
    async with pipe(server["S3_ENDPOINT"]) as between:
        between.hang()
        own = {"S3_ENDPOINT": between.url, "S3_TIMEOUT_SECONDS": "300", "PORT": str(port)}
        running = start(process, environment | server | own)
        await until(between.holding.is_set)
        if process == "web":
            async with AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                assert (await client.get("/livez")).status_code == 200
                assert (await client.get("/readyz")).status_code == 503
        assert await asyncio.to_thread(running.stop) == 0
    assert not running.other


async def test_tests_touch_a_bucket_of_their_own_that_goes(
    own: Settings, server: dict[str, str]
) -> None:
    with fresh(server) as variables:
        bucket = variables["S3_BUCKET"]
        async with changed(own, s3_bucket=bucket):
            await s3.put("left/behind", stream(SMALL))

    assert bucket != own.s3_bucket
    async with changed(own, s3_bucket=bucket):
        with pytest.raises(s3.Refused, match="NoSuchBucket"):
            await s3.ping()


async def test_development_finds_its_server_and_after_a_restart_its_objects(
    settings: Settings, tmp_path: Path
) -> None:
    with run(tmp_path) as first, run(tmp_path) as second:
        assert first == second
        async with s3.connect(at(settings, first)):
            await s3.put("kept", stream(SMALL))
    with run(tmp_path) as third:
        assert third != first
        async with s3.connect(at(settings, third)):
            assert await read("kept") == SMALL
