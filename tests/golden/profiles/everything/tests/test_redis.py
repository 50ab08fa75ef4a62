import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from invoiceflow import redis
from invoiceflow.config import Settings
from invoiceflow.resources import Unavailable

from dev.__main__ import ONE_OFF
from dev.redis import fresh, run
from tests.pipe import Pipe, pipe
from tests.running import COMMANDS, Start, free_port

PROCESS = min(COMMANDS.keys() - ONE_OFF)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server of the test's own, to be put into any state."""
    with run(tmp_path / "redis") as variables:
        yield variables["REDIS_URL"]


@asynccontextmanager
async def at(settings: Settings, url: str, seconds: float = 0.5) -> AsyncIterator[None]:
    """Redis at this URL, with a short deadline."""
    values = {"redis_url": SecretStr(url), "redis_timeout_seconds": seconds}
    async with redis.connect(settings.model_copy(update=values)):
        yield


@asynccontextmanager
async def cuttable(settings: Settings) -> AsyncIterator[Pipe]:
    async with (
        pipe(settings.redis_url.get_secret_value()) as between,
        at(settings, between.url),
    ):
        yield between


async def one() -> int:
    async with redis.commands() as client:
        return int(await client.incr("one"))


async def piped() -> None:
    async with redis.commands() as client, client.pipeline() as both:
        both.incr("one")
        both.incr("two")
        await both.execute()


async def scripted() -> None:
    async with redis.commands() as client:
        await client.eval("return redis.call('incr', KEYS[1])", 1, "one")


@asynccontextmanager
async def address(
    servers: list[str], *, lost: bytes | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Host and port that lead to the last of these servers, as a name does after a failover.

    lost: the answer by which the connection breaks.
    """

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if data == lost:
                break
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = urlsplit(servers[-1])
        back, forth = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(copy(reader, forth), copy(back, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "malformed",
    [
        "127.0.0.1:6379",
        "http://x/0",
        "redis://x:y/0",
        "redis://:pass/word@x/0",
        "redis://x/sessions",
        "redis://x/0?db=1",
        "redis://x/0?socket_timeout=1",
    ],
)
def test_a_malformed_url_is_named_and_not_shown(
    start: Start, unattached: dict[str, str], malformed: str
) -> None:
    process = start(PROCESS, unattached | {"REDIS_URL": malformed})

    assert process.exit_code() == 1
    assert process.event("settings.invalid")["malformed"].keys() == {"REDIS_URL"}
    assert malformed not in str(process.events)


async def test_a_process_holds_no_more_connections_than_its_pool(attached: Settings) -> None:
    async def connection() -> int:
        async with redis.commands() as client:
            return int(await client.client_id())

    async with redis.connect(attached.model_copy(update={"redis_pool_size": 2})):
        assert len(set(await asyncio.gather(*(connection() for _ in range(20))))) <= 2


async def test_commands_end_at_their_deadline(attached: Settings) -> None:
    async with at(attached, attached.redis_url.get_secret_value(), seconds=0.1):
        with pytest.raises(Unavailable):
            async with redis.commands() as client:
                await client.blpop(["nothing"], timeout=10)


async def test_a_timeout_of_the_work_between_commands_is_not_an_outage(attached: Settings) -> None:
    with pytest.raises(TimeoutError):
        async with redis.commands():
            raise TimeoutError


async def test_a_command_that_is_wrong_is_not_an_outage(attached: Settings) -> None:
    async with redis.commands() as client:
        await client.set("text", "no number")
        with pytest.raises(ResponseError):
            await client.incr("text")
    with pytest.raises(ResponseError):
        async with redis.commands() as client:
            await client.incr("text")


async def test_an_outage_is_said_at_once_and_ends_without_a_restart(attached: Settings) -> None:
    async with cuttable(attached) as between:
        await one()
        with capture_logs() as lines:
            await between.cut()
            for _ in range(attached.redis_pool_size + 1):
                with pytest.raises(Unavailable):
                    await one()
            await between.open()
            await one()
            await one()

    assert [line["event"] for line in lines] == ["redis.away", "redis.back"]


async def test_a_connection_that_was_lost_while_idle_is_nobodys_outage(attached: Settings) -> None:
    async with cuttable(attached) as between:
        before = await one()
        await between.cut()
        await between.open()
        assert await one() == before + 1


async def test_a_server_that_hangs_holds_nobody_past_the_deadline(attached: Settings) -> None:
    async with cuttable(attached) as between:
        await one()
        between.hang()
        waiting = [asyncio.create_task(one()) for _ in range(attached.redis_pool_size * 5)]
        done, pending = await asyncio.wait(waiting, timeout=10)
        assert not pending
        for task in done:
            error = task.exception()
            assert isinstance(error, Unavailable)
            assert isinstance(error.__cause__, TimeoutError)  # the deadline, none of the driver's
        between.flow()
        await one()


async def test_a_process_waits_for_its_redis_and_then_goes_on(
    environment: dict[str, str], start: Start
) -> None:
    async with pipe(environment["REDIS_URL"]) as between:
        await between.cut()
        own = {"REDIS_URL": between.url, "PORT": str(free_port())}
        process = start(PROCESS, environment | own)
        await asyncio.to_thread(process.event, "resource.waiting", resource="redis")
        await between.open()
        await asyncio.to_thread(process.event, "resources.reached")
        assert await asyncio.to_thread(process.stop) == 0


async def test_a_process_that_waits_for_a_hung_redis_ends_on_sigterm(
    environment: dict[str, str], start: Start
) -> None:
    async with pipe(environment["REDIS_URL"]) as between:
        between.hang()
        own = {"REDIS_URL": between.url, "PORT": str(free_port())}
        process = start(PROCESS, environment | own)
        await between.holding.wait()
        assert await asyncio.to_thread(process.stop) == 0


@pytest.mark.parametrize(
    ("command", "undo"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 9", "REPLICAOF NO ONE"),
    ],
    ids=["full", "without its replicas", "a replica"],
)
async def test_a_server_that_takes_no_writes_is_away_until_it_does(
    settings: Settings, server: str, command: str, undo: str
) -> None:
    with Redis.from_url(server) as operator:
        async with at(settings, server):
            await one()
            operator.execute_command(command)
            for write in (one, piped, scripted):
                with pytest.raises(Unavailable):
                    await write()
            operator.execute_command(undo)
            for write in (one, piped, scripted):
                await write()


async def test_a_command_whose_answer_was_lost_is_not_sent_again(
    settings: Settings, server: str
) -> None:
    async with address([server], lost=b":1\r\n") as name, at(settings, f"redis://{name}/0"):
        with pytest.raises(Unavailable):
            await one()
        assert await one() == 2


async def test_after_a_failover_the_address_is_looked_up_again(
    settings: Settings, server: str, tmp_path: Path
) -> None:
    with run(tmp_path / "second") as variables, Redis.from_url(server) as operator:
        servers = [server]
        async with address(servers) as name, at(settings, f"redis://{name}/0", seconds=5):
            await one()
            servers.append(variables["REDIS_URL"])
            operator.execute_command("REPLICAOF 127.0.0.1 9")
            assert await one() == 1


async def test_a_user_with_a_password_and_few_rights_is_ready(
    settings: Settings, server: str
) -> None:
    with Redis.from_url(server) as operator:
        operator.execute_command("ACL SETUSER ada on >pass/word ~* +@all -info -config")
    own = server.replace("//", "//ada:pass%2Fword@").replace("/0", "/3")
    async with at(settings, own):
        await redis.ping()
        await one()
    async with at(settings, own.replace("pass", "past")):
        with pytest.raises(Unavailable):
            await redis.ping()
    with Redis.from_url(server.replace("/0", "/3")) as third:
        assert third.keys() == [b"one"]


async def test_a_server_that_drops_keys_is_not_ready(settings: Settings, server: str) -> None:
    with Redis.from_url(server) as operator:
        async with at(settings, server):
            operator.config_set("maxmemory-policy", "allkeys-lru")
            await redis.ping()  # without a limit to its memory it never does
            operator.config_set("maxmemory", "1gb")
            with pytest.raises(RuntimeError, match="noeviction"):
                await redis.ping()
            operator.config_set("maxmemory-policy", "volatile-lru")
            with capture_logs() as lines:
                await redis.ping()
                operator.config_set("maxmemory-policy", "noeviction")
                await redis.ping()

    assert [line["event"] for line in lines] == ["redis.evicts"]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nothing but itself vouches for, and its key."""
    made, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made), "-keyout", str(key)),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return made, key


async def test_tls_is_checked_against_the_authority_that_the_url_names(
    settings: Settings, server: str, certificate: tuple[Path, Path]
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    async with address([server], tls=tls) as there:
        async with at(settings, f"rediss://{there}/0?ssl_ca_certs={certificate[0]}", seconds=5):
            assert await one() == 1
        for stranger in (f"rediss://{there}/0", f"redis://{there}/0"):
            async with at(settings, stranger):
                with pytest.raises(Unavailable):
                    await one()


def test_the_development_server_is_found_again_and_keeps_its_data(tmp_path: Path) -> None:
    with run(tmp_path) as first, run(tmp_path) as second:
        assert first == second
        with Redis.from_url(first["REDIS_URL"]) as client:
            client.set("kept", "yes")
    with run(tmp_path) as again, Redis.from_url(again["REDIS_URL"]) as client:
        assert client.get("kept") == b"yes"


def test_tests_touch_an_empty_database_of_their_own(server: str) -> None:
    variables = {"REDIS_URL": server}
    with Redis.from_url(server.replace("/0", "/1")) as developers:
        developers.set("theirs", "yes")
        with fresh(variables) as one, fresh(variables) as other:
            assert len({server, one["REDIS_URL"], other["REDIS_URL"]}) == 3
            with Redis.from_url(one["REDIS_URL"]) as client:
                assert client.keys() == []
                client.set("mine", "yes")
        assert developers.keys() == [b"theirs"]
    with Redis.from_url(one["REDIS_URL"]) as client:
        assert client.keys() == []


def test_what_killed_tests_left_behind_is_removed(server: str) -> None:
    variables = {"REDIS_URL": server}
    killed = fresh(variables)
    with Redis.from_url(killed.__enter__()["REDIS_URL"]) as client:
        client.set("left", "behind")
    with Redis.from_url(server) as claims:
        claims.delete("tests:1")  # as it expires
    with fresh(variables) as own, Redis.from_url(own["REDIS_URL"]) as client:
        assert own["REDIS_URL"].endswith("/1")
        assert client.keys() == []
