"""N replicas are one: a client cannot tell how many processes there are, nor that some die."""

import asyncio
import itertools
import json
import re
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from httpx2 import AsyncClient, Response, TransportError
from sqlalchemy import text

from invoiceflow import parts, postgres, resources
from invoiceflow.config import Settings
from invoiceflow.invoices import webhook

from dev.__main__ import ONE_OFF
from tests.queueing import put
from tests.running import COMMANDS, SECONDS, Running, Start, free_port, until

ONE = dict.fromkeys(sorted(COMMANDS.keys() - ONE_OFF), 1)
FOUR = ONE | {"web": 4, "worker": 2}
OWN = re.compile(
    r"(?P<token>(?<=\"token\":\")[^\"]+)|(?P<time>\d{4}-\d\d-\d\dT[^\"]+)"
    r"|(?P<id>[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12})"
)


class Platform:
    """Processes behind a balancer. Each has a folder for temporary files that no other sees."""

    def __init__(self, environment: dict[str, str], folder: Path, start: Start) -> None:
        self.client = AsyncClient(timeout=SECONDS)
        self.environment, self.folder, self.start = environment, folder, start
        self.ports: list[int] = []
        self.running: dict[str, list[Running]] = {}
        self.last = 0
        self.ready: set[int] = set()
        self.killed = itertools.count()

    async def scale(self, numbers: dict[str, int]) -> None:
        """Start as many more as it takes, and wait for those that answer."""
        self.ports += [free_port() for _ in range(numbers["web"] - len(self.ports))]
        for name, number in numbers.items():
            running = self.running.setdefault(name, [])
            running += [self.launch(name, index) for index in range(len(running), number)]
        await until(self.up)

    def launch(self, name: str, index: int) -> Running:
        own = self.folder / uuid.uuid4().hex
        own.mkdir()
        variables = {"TMPDIR": str(own), "WORKER_STALLED_SECONDS": "1"}
        if name == "web":
            variables["PORT"] = str(self.ports[index])
        return self.start(name, self.environment | variables)

    def kill(self) -> None:
        """End the web process that answered last, and a worker, as a machine that fails does."""
        self.ready.discard(self.last)
        worker = next(self.killed) % len(self.running["worker"])
        for name, index in (("web", self.last), ("worker", worker)):
            self.running[name][index].kill()
            self.running[name][index] = self.launch(name, index)

    async def request(self, method: str, path: str, **more: Any) -> Response:
        """The answer of the next process that is ready."""
        await until(self.turn)
        return await self.client.request(method, self.url(path), **more)

    async def turn(self) -> bool:
        """Go on to the next process; whether it is ready."""
        self.last = (self.last + 1) % len(self.ports)
        if self.last not in self.ready:
            with suppress(TransportError):
                if (await self.client.get(self.url("/readyz"))).status_code == 200:
                    self.ready.add(self.last)
        return self.last in self.ready

    async def up(self) -> bool:
        return await self.turn() and len(self.ready) == len(self.ports)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[self.last]}{path}"


class Story:
    """What a client does, and what it sees: ids by their first appearance, no times."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.transcript: list[str] = []
        self.ids: dict[str, str] = {}
        self.headers = {"X-Forwarded-For": uuid.uuid4().hex}  # who it is, for limits
        self.kills = len(platform.ports) > 1

    async def ask(self, status: int, method: str, path: str, **more: Any) -> Response:
        headers = self.headers | more.pop("headers", {})
        answer = await self.platform.request(method, path, headers=headers, **more)
        said = f"{method} {path} {answer.status_code} {answer.content.decode('latin-1')}"
        self.transcript.append(OWN.sub(self.name, said))
        assert answer.status_code == status, self.transcript[-1]
        return answer

    def name(self, own: re.Match[str]) -> str:
        if own.lastgroup == "id":
            return self.ids.setdefault(own[0], f"id-{len(self.ids)}")
        return str(own.lastgroup)

    async def until(self, status: int, path: str, having: str = "") -> None:
        """Ask again until this is the answer: how often, nobody knows."""

        async def done() -> bool:
            answer = await self.platform.request("GET", path)
            return answer.status_code == status and having in answer.text

        await until(done)

    def disturb(self) -> None:
        if self.kills:
            self.platform.kill()

    async def tell(self, settings: Settings) -> None:
        if "invoices.login" in parts.ROUTES:
            await self.log_in()
        new = {"customer": "Ada", "amount_cents": 1200, "due_on": "2020-01-31"}
        invoice = (await self.ask(201, "POST", "/invoices", json=new)).json()["id"]
        other = (await self.ask(201, "POST", "/invoices", json=new)).json()["id"]
        await self.ask(200, "GET", f"/invoices/{invoice}")
        await self.ask(200, "GET", "/invoices?limit=2")
        if "invoices.dunning" in parts.JOBS:
            await self.be_reminded(other)
        if "invoices.documents" in parts.ROUTES:
            await self.print_out(invoice)
        await self.pay(invoice, settings.webhook_secret.get_secret_value())
        await self.ask(200, "GET", f"/invoices/{invoice}")
        await self.ask(200, "GET", f"/invoices/{other}")
        await self.ask(200, "GET", "/invoices?limit=2")
        if "invoices.login" in parts.ROUTES:
            await self.log_out()

    async def log_in(self) -> None:
        ada = {"email": f"{uuid.uuid4()}@example.org", "password": "correct horse battery"}
        await self.ask(201, "POST", "/accounts", json=ada)
        await self.ask(409, "POST", "/accounts", json=ada)
        token = (await self.ask(200, "POST", "/login", json=ada)).json()["token"]
        for _ in range(7):
            await self.ask(401, "POST", "/login", json=ada | {"password": "guessed"})
        await self.ask(429, "POST", "/login", json=ada)
        self.headers["Authorization"] = f"Bearer {token}"
        for _ in range(4):
            await self.ask(200, "GET", "/me")

    async def log_out(self) -> None:
        await self.ask(200, "GET", "/me")
        await self.ask(204, "POST", "/logout")
        for _ in range(4):
            await self.ask(401, "GET", "/me")

    async def be_reminded(self, invoice: str) -> None:
        """The day begins, for two clocks at once."""
        (dunning,) = resources.load(["invoices.dunning"])
        await asyncio.gather(put(dunning.remind_overdue), put(dunning.remind_overdue))
        self.disturb()
        await self.until(200, f"/invoices/{invoice}", '"overdue"')
        query = text("select sent_at is not null from reminders where invoice_id = :id")

        async def sent() -> bool:
            async with postgres.transaction() as session:
                return list(await session.scalars(query, {"id": uuid.UUID(invoice)})) == [True]

        await until(sent)

    async def print_out(self, invoice: str) -> None:
        document = f"/invoices/{invoice}/document"
        await self.ask(404, "GET", document)
        await self.ask(202, "POST", document)
        self.disturb()
        await self.until(200, document)
        for _ in range(2):
            await self.ask(200, "GET", document)

    async def pay(self, invoice: str, secret: str) -> None:
        event = {"id": uuid.uuid4().hex, "type": "payment.succeeded", "invoice": invoice}
        body = json.dumps(event).encode()
        headers = {"Signature": webhook.sign(secret, body, time.time())}
        await self.ask(202, "POST", "/webhooks/payments", content=body, headers=headers)
        self.disturb()
        for _ in range(4):
            await self.ask(202, "POST", "/webhooks/payments", content=body, headers=headers)
        await self.until(200, f"/invoices/{invoice}", '"paid"')


async def test_a_client_cannot_tell_four_from_one_nor_that_some_are_killed(
    attached: Settings, environment: dict[str, str], start: Start, tmp_path: Path
) -> None:
    transcripts = []
    platform = Platform(environment, tmp_path, start)
    async with platform.client:
        for numbers in (ONE, FOUR):
            await platform.scale(numbers)
            story = Story(platform)
            await story.tell(attached)
            transcripts.append(story.transcript)

    one, four = transcripts
    assert four == one
