"""The story of a service, told for real: built, released, promoted, rolled and rolled back.

A container engine runs it, a registry on loopback has its images, HAProxy stands before it, and
requests go on all the while. What has to happen is asserted, what must not is tried.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import create_server

from engine import structured

ROOT = Path(__file__).parent.parent
PORTS = 6  # of an environment: two web processes, the two that follow them, and two to spare
SERVICE = "invoiceflow"
PAUSE_SECONDS = 0.02
CLIENTS = 2  # of each kind
REQUEST_SECONDS = 30
UP_SECONDS = 30
BALANCER = """
global
    log stdout format raw local0
defaults
    log global
    option httplog
    mode http
    retries 0
    timeout connect 2s
    timeout client 60s
    timeout server 60s
"""
ENVIRONMENT = """
listen {name}
    bind 127.0.0.1:{port}
    option httpchk GET /readyz
    default-server check inter 1s fall 2 rise 1
"""
SLOW = """
import asyncio

@router.get("/slow")
async def slow() -> str:
    await asyncio.sleep(2)
    return "done"
"""
NEVER_READY = """
import sys
import time

if "web" in sys.argv:
    time.sleep(3600)
"""
FAILING = '''"""A migration that fails half way."""

from alembic import op

revision = "story_0001"
down_revision = None
branch_labels = ("story",)


def upgrade() -> None:
    op.execute("create table half_done (id int)")
    op.execute("select 1 / 0")
'''
HEAD = """# The story of a service

Written by `bin/story`, which does all of this for real: a generated service, a container engine, a
registry on loopback, HAProxy in front of both environments, PostgreSQL behind them. Seconds are
of one run on {cores} cores that others used too. HAProxy asks each web process once a second,
believes the second failure, and never tries a request again: whatever a rollout loses is seen.

```
{transcript}
```
"""


class Story:
    """A generated service, the programs around it, and what has been told so far."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.service = folder / SERVICE
        self.name = f"story-{secrets.token_hex(3)}"
        self.lines: list[str] = []
        self.ports = {name: free_ports(PORTS) for name in ("staging", "production")}
        self.front = {name: free_ports(1)[0] for name in self.ports}
        self.registry = free_ports(1)[0]

    def tell(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line.replace(self.name, "story"))

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.tell(f"{time.monotonic() - began:6.1f} s  {what}")

    def run(self, *command: object, **variables: str) -> str:
        """What a command prints; the story ends with what it says if it fails."""
        done = self.attempt(*command, **variables)
        if done.returncode:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def attempt(self, *command: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, command)],
            cwd=self.service if self.service.exists() else self.folder,
            env=os.environ | {"DELIVERY_HOME": str(self.folder / "home")} | variables,
            capture_output=True,
            text=True,
        )

    def verb(self, name: str, environment: str, *words: object, **variables: str) -> str:
        """The last line of a verb of the service."""
        return self.run(f"bin/{name}", *words, **self.place(environment, variables)).splitlines()[
            -1
        ]

    def verb_quiet(self, name: str, environment: str, *words: object) -> None:
        """A verb that answers with nothing but its end."""
        self.run(f"bin/{name}", *words, **self.place(environment, {}))

    def smoke(self, environment: str, release: str) -> str:
        said = self.verb("smoke", environment, self.url(environment), release)
        return said.replace(self.url(environment), f"http://{environment}")

    def refusal(self, name: str, environment: str, *words: object, **variables: str) -> str:
        """What a verb says that does not do what it is asked to."""
        done = self.attempt(f"bin/{name}", *words, **self.place(environment, variables))
        must(done.returncode == 1, f"bin/{name} ended with {done.returncode}: {done.stderr}")
        said: str = done.stderr.splitlines()[-1]
        return said

    def place(self, environment: str, variables: dict[str, str]) -> dict[str, str]:
        ports = self.ports[environment]
        spread = {"DELIVERY_PORTS": f"127.0.0.1:{ports[0]}-{ports[-1]}"}
        return spread | {"DELIVERY_NETWORK": self.name} | variables

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        identity = ("-c", "user.name=Story", "-c", "user.email=story@example.org")
        self.run("git", *identity, "commit", "--quiet", "--message", message)

    def config(self, environment: str, **more: str) -> Path:
        """The configuration of an environment, outside of the repository."""
        url = f"postgresql://postgres:{self.name}@{self.name}:5432/{environment}"
        values = {"DATABASE_URL": url, "WEBHOOK_SECRET": secrets.token_hex(16)}
        file = self.folder / f"{environment}.env"
        if file.exists():
            values = dict(line.split("=", 1) for line in file.read_text().split())
        file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        other = self.folder / f"{environment}-{secrets.token_hex(3)}.env"
        other.write_text("".join(f"{name}={value}\n" for name, value in (values | more).items()))
        return other

    def release(self, environment: str, image: str, **more: str) -> str:
        config = self.config(environment, **more)
        return self.verb("release", environment, environment, image, "--config", config)

    def url(self, environment: str) -> str:
        return f"http://127.0.0.1:{self.front[environment]}"

    def changed(self, image: str, line: str) -> str:
        """An image that differs from this one by a line of its Dockerfile."""
        changed = f"{image.partition('@')[0]}:changed"
        (self.folder / "Dockerfile").write_text(f"FROM {image}\n{line}\n")
        self.run("docker", "build", "--quiet", "--tag", changed, self.folder)
        return changed

    # ---- what stands around the service

    def start_registry(self) -> None:
        config = self.folder / "registry.yml"
        store = json.dumps({"filesystem": {"rootdirectory": str(self.folder / "registry")}})
        http = json.dumps({"addr": f"127.0.0.1:{self.registry}"})
        config.write_text(f"version: 0.1\nstorage: {store}\nhttp: {http}\n")
        self.start("docker-registry", "serve", config)
        until("the registry", lambda: status(f"127.0.0.1:{self.registry}", "/v2/") == 200)

    def start_balancer(self) -> None:
        text = BALANCER
        for name, ports in self.ports.items():
            text += ENVIRONMENT.format(name=name, port=self.front[name])
            text += "".join(f"    server {port} 127.0.0.1:{port}\n" for port in ports)
        (self.folder / "haproxy.cfg").write_text(text)
        self.start("haproxy", "-db", "-f", self.folder / "haproxy.cfg")

    def start_database(self) -> None:
        self.run("docker", "network", "create", self.name)
        self.stack.callback(self.attempt, "docker", "network", "rm", self.name)
        options = ("--detach", "--name", self.name, "--network", self.name)
        password = ("--env", f"POSTGRES_PASSWORD={self.name}")
        self.run("docker", "run", *options, *password, "postgres:18")
        self.stack.callback(self.attempt, "docker", "rm", "--force", "--volumes", self.name)
        client = ("docker", "exec", self.name, "psql", "--host=127.0.0.1", "--username=postgres")
        until("PostgreSQL", lambda: self.attempt(*client, "-c", "select 1").returncode == 0)
        for environment in self.ports:
            self.run(*client, "-c", f"create database {environment}")

    def start(self, *command: object) -> None:
        log = (self.folder / f"{command[0]}.log").open("w")
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)

    def clean(self) -> None:
        """Take every container of this story away, however far it came."""
        for folder in (self.folder / "home").glob("*/records/*.json"):
            command = ("docker", "compose", "--project-name", folder.stem, "down", "--timeout", "1")
            subprocess.run(command, cwd=folder.parent, capture_output=True)
        images = self.attempt("docker", "images", "--quiet", f"127.0.0.1:{self.registry}/{SERVICE}")
        if images.stdout:
            self.attempt("docker", "rmi", "--force", *set(images.stdout.split()))


class Load:
    """Bounded requests of three kinds, answers counted by kind, whatever is no answer kept."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.counted: Counter[str] = Counter()
        self.failed: list[str] = []
        self.releases: list[str] = []
        self.over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        kinds = (self.new_connections, self.keep_alive, self.slow)
        threads = [threading.Thread(target=kind) for kind in kinds for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def new_connections(self) -> None:
        while not self.over.wait(PAUSE_SECONDS):
            body = self.ask("new connections", self.connection(), "GET", "/version", 200)
            if body and (release := json.loads(body)["release"]) not in self.releases:
                self.releases.append(release)

    def keep_alive(self) -> None:
        connection = self.connection()
        new = json.dumps({"customer": "Ada", "amount_cents": 1200, "due_on": "2030-01-31"})
        while not self.over.wait(PAUSE_SECONDS):
            self.ask("keep-alive, writing", connection, "POST", "/invoices", 201, new, keep=True)
        connection.close()

    def slow(self) -> None:
        while not self.over.wait(PAUSE_SECONDS):
            self.ask("two seconds each", self.connection(), "GET", "/slow", 200)

    def connection(self) -> HTTPConnection:
        return HTTPConnection(self.address, timeout=REQUEST_SECONDS)

    def ask(
        self,
        kind: str,
        connection: HTTPConnection,
        method: str,
        path: str,
        wanted: int,
        body: str | None = None,
        *,
        keep: bool = False,
    ) -> bytes:
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == wanted:
                self.counted[kind] += 1
                return text
            self.failed.append(f"{kind}: {answer.status} {text[:200]!r}")
        except (OSError, HTTPException) as error:
            self.failed.append(f"{kind}: {error!r}")
            connection.close()
        finally:
            if not keep:
                connection.close()
        return b""

    def summary(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.counted.items()))
        return f"{len(self.failed)} failed of {kinds}"


def main() -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="story-")))
        story = Story(folder, stack)
        try:
            told(story)
        finally:
            story.clean()  # before the network goes, which its containers are on
        text = "\n".join(story.lines)
        head = HEAD.format(cores=os.cpu_count(), transcript=text)
        (ROOT / "docs/story.md").write_text(head)
    return 0


def told(story: Story) -> None:
    image = f"127.0.0.1:{story.registry}/{SERVICE}"
    with story.step("a registry, PostgreSQL and HAProxy stand ready"):
        story.start_registry()
        story.start_database()
        story.start_balancer()
    with story.step("copier copy, git init, the lock completed"):
        copier = Path(sys.executable).with_name("copier")
        answers = ("--data", "kubernetes=false", "--data", f"image={image}")
        story.run(
            copier, "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", *answers, ROOT, story.service
        )
        story.run(Path(sys.executable).with_name("uv"), "lock", "--quiet")
        story.run("git", "init", "--quiet")
        story.commit("Start from the template")
        routes = story.service / f"src/{SERVICE}/routes.py"
        routes.write_text(routes.read_text() + SLOW)
    story.tell(f"    bin/build          {story.refusal('build', 'staging')}")
    story.commit("A route that takes two seconds")
    with story.step("bin/build --push"):
        first = story.verb("build", "staging", "--push")
    story.tell(f"    {first}")
    with story.step("container-structure-test on that image"):
        wrong = structured(first)
    must(not wrong, wrong)
    said = "; ".join(structured(story.changed(first, "USER 0")))
    must("user" in said, f"an image that runs as root: {said}")
    story.tell(f"    and on it with USER 0: {said}")

    story.tell("\nStaging")
    said = story.refusal("release", "staging", "staging", f"{image}:latest")
    story.tell(f"    bin/release        {said}")
    one = story.release("staging", first)
    with story.step(f"bin/deploy {one}: migrated, started, asked"):
        story.verb_quiet("deploy", "staging", one)
    story.tell(f"    bin/smoke          {story.smoke('staging', one)}")

    story.tell("\nProduction, promoted: the same digest")
    other = f"{image}@sha256:{'0' * 64}"
    said = story.refusal("release", "production", "production", other)
    story.tell(f"    bin/release        {said}")
    one = story.release("production", first)
    with story.step(f"bin/deploy {one}"):
        story.verb_quiet("deploy", "production", one)
    story.tell(f"    bin/smoke          {story.smoke('production', one)}")

    story.tell("\nA second build, while requests go on")
    (story.service / "CHANGELOG.md").write_text("# Changelog\n\n- A second version.\n")
    routes.write_text(f"{routes.read_text()}\nSECOND = True\n")
    story.commit("A second version")
    with story.step("bin/build --push, the packages' layers kept"):
        second = story.verb("build", "staging", "--push")
    story.release("staging", second)
    two = story.release("production", second)
    load = Load(story.url("production").removeprefix("http://"))
    with load.running():
        with story.step(f"bin/deploy {two}"):
            story.verb_quiet("deploy", "production", two)
        story.tell(f"    bin/smoke          {story.smoke('production', two)}")
        with story.step("bin/rollback production"):
            back = story.verb("rollback", "production", "production")
        story.tell(f"    {back}")
        story.tell(f"    bin/smoke          {story.smoke('production', one)}")
    story.tell(f"    requests           {load.summary()}")
    must(not load.failed, Counter(load.failed))
    must(load.releases[:2] == [one, two], load.releases)
    must(all(load.counted.values()), load.counted)

    story.tell("\nA migration that fails, and web processes that are never ready: traffic stays")
    load = Load(story.url("production").removeprefix("http://"))
    with load.running():
        versions = story.service / f"src/{SERVICE}/migrations/versions"
        (versions / "story_0001.py").write_text(FAILING)
        story.commit("A migration that fails")
        three = broken(story)
        with story.step(f"bin/deploy {three}, exit 1"):
            said = story.refusal("deploy", "production", three)
        story.tell(f"    {said}")
        must(f"so {one} goes on" in said, said)
        (versions / "story_0001.py").unlink()
        routes.write_text(f"{routes.read_text()}{NEVER_READY}")
        story.commit("Web processes that never listen")
        four = broken(story)
        with story.step(f"bin/deploy {four}, DELIVERY_SECONDS=20, exit 1"):
            said = story.refusal("deploy", "production", four, DELIVERY_SECONDS="20")
        story.tell(f"    {said}")
        must(f"so {one} goes on" in said, said)
        story.tell(f"    bin/smoke          {story.smoke('production', one)}")
    story.tell(f"    requests           {load.summary()}")
    must(not load.failed, Counter(load.failed))
    must(load.releases == [one], load.releases)

    story.tell("\nThe control: the same roll without the drain must lose requests")
    undrained = [story.release("production", build, DRAIN_SECONDS="0") for build in (first, second)]
    story.verb_quiet("deploy", "production", undrained[0])
    load = Load(story.url("production").removeprefix("http://"))
    with load.running(), story.step(f"bin/deploy {undrained[1]}, DRAIN_SECONDS=0"):
        story.verb_quiet("deploy", "production", undrained[1])
    story.tell(f"    requests           {load.summary()}")
    must(load.failed, "Without a drain nothing was lost, so the zero above says nothing.")


def broken(story: Story) -> str:
    """A release to production of the commit as it is now, by way of staging."""
    build = story.verb("build", "staging", "--push")
    story.release("staging", build)
    return story.release("production", build)


def must(held: object, said: object) -> None:
    if not held:
        raise SystemExit(f"The story goes wrong: {said}")


def until(what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come up within {UP_SECONDS} s.")
        time.sleep(0.1)


def status(address: str, path: str) -> int:
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def free_ports(number: int) -> list[int]:
    """Ports in a row that nothing listens on, below those that the system gives away."""
    while True:
        first = 20_000 + secrets.randbelow(12_000)
        found = [*range(first, first + number)]
        with ExitStack() as stack:
            try:
                for port in found:
                    stack.enter_context(create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return found


if __name__ == "__main__":
    sys.exit(main())
