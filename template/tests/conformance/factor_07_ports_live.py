"""VII. Port binding: the process itself listens where PORT says, and nowhere else."""

import asyncio
import contextlib
import re
import socket
from urllib.parse import urljoin

from .catalogue import check, require
from .factor_06_processes_live import same
from .factor_09_disposability_live import OPEN, troubled
from .kit import Kit, sockets
from .platform import FORWARDED, Process

ANY = {"00000000", "0" * 32}  # every interface, as /proc writes it
IDLE_SECONDS = 7  # that a balancer keeps a connection, at least; many servers end it after 5
HALF_SECONDS = 20  # for which a client may leave it at half a request
# By which proxies tell a service behind them who has logged in.
WHO = (
    *("Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Forwarded-Email", "X-User"),
    *("X-User-ID", "X-User-Email", "X-Authenticated-User", "X-Auth-Request-User"),
    *("X-Auth-Request-Email", "X-WEBAUTH-USER"),
)
PAGES = ("/", "/docs", "/redoc")  # that no list of paths may have
NEEDS = re.compile(r"<(?:script|link|img)\b[^>]*?\b(?:src|href)=[\"'](?!\w+:|//|#)([^\"'?#]+)")
REQUEST = b"GET /version HTTP/1.1\r\nHost: service\r\n\r\n"


@check("VII-1", 48, 51, 79, fast=True)
async def port(kit: Kit) -> str:
    """A web process listens on PORT, on every interface, or not at all; nothing else listens."""
    told = await kit.told()
    ports, alive = set(), set()
    for process in told.deploy.processes:
        if process.pid not in told.listening:
            continue
        alive.add(process.type)
        places = {tuple(one.split(":")) for one in told.listening[process.pid]}
        expected = {f"{process.port:04X}"} if process.type == "web" else set()
        require({number for _, number in places} == expected, f"{process.type} on {places}")
        require({host for host, _ in places} <= ANY, f"not on every interface: {places}")
        ports |= expected
    require({*kit.serving} <= alive, f"alive were {sorted(alive)}, not all of {kit.serving}")
    tried = len(ports) > 1 or "web" not in kit.procfile
    require(tried, f"one port alone was tried: {ports}")
    if "web" in kit.procfile:
        await kit.once(second)
    return f"{len(ports)} of {len(told.listening)} processes listen, each on its PORT, everywhere"


async def second(kit: Kit) -> Process:
    """A web process whose port is taken: it has ended, and said so."""
    async with kit.whole() as deploy:
        taken = await deploy.start("web", PORT=str(deploy.of("web")[0].port))
        require(await taken.ended() != 0, "it ended with 0, and its port was another's")
    return taken


@check("VII-3", 48, 49, 50, 51, needs=("web",))
async def protocol(kit: Kit) -> str:
    """The process speaks HTTP/1.1 itself, to whoever reaches its port, keeps a connection, waits
    for no client for ever, and answers garbage with 400."""
    async with kit.whole() as deploy:
        web = deploy.of("web")[0]
        require(sockets(web.pid), "it listens nowhere")
        await the_same_to_all(web)
        await whole_pages(web)
        slow, half = await asyncio.open_connection("127.0.0.1", web.port)
        half.write(REQUEST[:-2])
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        for number in range(3):
            if number == 2:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), IDLE_SECONDS)
                require(not reader.at_eof(), f"closed what was idle for {IDLE_SECONDS} s")
            writer.write(REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *headers = head.lower().splitlines()
            require(status.startswith("http/1.1 200"), head)
            lengths = [one for one in headers if one.startswith("content-length:")]
            require(lengths, f"no content-length: {head}")
            await reader.readexactly(int(lengths[0].partition(":")[2]))
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = (await reader.read()).decode(errors="replace")
        require(
            " 400 " in answer.partition("\r\n")[0], f"garbage was answered with {answer[:100]!r}"
        )
        writer.close()
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(slow.read(), HALF_SECONDS)
        require(slow.at_eof(), f"waits more than {HALF_SECONDS} s for the rest of a request")
        half.close()
    return f"HTTP/1.1, a connection kept for {IDLE_SECONDS} s, garbage refused with 400"


async def the_same_to_all(web: Process) -> None:
    """Probes answer another machine as they answer this one, and no header says who asks."""
    for path in OPEN:
        near = (await web.get(path)).status_code
        far = await web.client.get(f"http://{outer_address()}:{web.port}{path}")
        require(far.status_code == near, f"{path}: {near}, and {far.status_code} from elsewhere")
    for path in await web.pages():
        code = (await web.get(path)).status_code
        if code in (401, 403):
            feigned = await web.asks("GET", path, headers=dict.fromkeys(WHO, "1"))
            said = f"{path}: {code}, and {feigned.status_code} to who says in a header who it is"
            require(feigned.status_code == code, said)


async def whole_pages(web: Process) -> None:
    """What a page needs of the same host is there: no server beside this one has to have it."""
    for path in (*await web.pages(), *PAGES):
        page = await web.get(path)
        html = "html" in page.headers.get("content-type", "")
        for link in NEEDS.findall(page.text) if html else ():
            code = (await web.get(there := urljoin(path, link))).status_code
            require(code < 400, f"{path} needs {there}, which is {code}")


def outer_address() -> str:
    """This machine's address in its network, if it is in one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing: it asks which way it would go
        return str(probe.getsockname()[0])
    return "127.0.0.2"


@check("VII-6", 50, 51, needs=("web",))
async def behind_a_balancer(kit: Kit) -> str:
    """Behind a balancer that ends TLS the story is as without one, and no answer leads past it."""
    told = await kit.told()
    same((await kit.once(troubled)).told, told.transcript("one"))
    leads = [lead for one in told.tellings.values() for lead in one.balancer.leads]
    require(not leads, f"{len(leads)} answers: {leads[:1]}")
    number = sum(len(one.request_ids) for one in told.tellings.values())
    require(number, "the story asks nothing")
    return f"{number} answers to https://{FORWARDED['Host']}, none with a process's own address"
