"""RabbitMQ of this machine, or from a container: it comes in no wheel."""

import hashlib
import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pika  # type: ignore[import-untyped]

from .server import free_port, running

VARIABLE = "RABBITMQ_URL"
NOWHERE = {VARIABLE: "amqp://127.0.0.1:9/%2F"}

IMAGE = "rabbitmq:4"  # compose.yaml's
# The command on the PATH would change to another user and another folder.
SERVER = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/opt/homebrew/sbin")
MISSING = (
    "RabbitMQ is not on this machine: install it (apt-get install rabbitmq-server), start a"
    f" container engine, or set {VARIABLE} to one that runs elsewhere."
)


@contextmanager
def run(folder: Path) -> Iterator[dict[str, str]]:
    """A server on the data in this folder, or the one that already runs on it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "dev-" + hashlib.sha256(bytes(folder.resolve())).hexdigest()[:12]
    said = folder / "url"
    if said.exists() and _answers(said.read_text(), name):
        yield {VARIABLE: said.read_text()}
        return
    port = free_port()
    url = f"amqp://guest:guest@127.0.0.1:{port}/%2F"
    command, environment = _command(folder, name, port)
    with running(command, folder / "log", lambda: _answers(url, name), environment=environment):
        said.write_text(url)
        yield {VARIABLE: url}


@contextmanager
def fresh(variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A queue of a new name on this server, deleted at the end."""
    name = f"test_{uuid.uuid4().hex}"
    yield {VARIABLE: variables[VARIABLE], "RABBITMQ_QUEUE": name}
    with closing(pika.BlockingConnection(pika.URLParameters(variables[VARIABLE]))) as connection:
        channel = connection.channel()
        for queue in (name, f"{name}.again", f"{name}.DQ", f"{name}.XQ"):
            channel.queue_delete(queue)


def _command(folder: Path, name: str, port: int) -> tuple[list[str], dict[str, str]]:
    if SERVER:
        (folder / "plugins").write_text("[].")
        return [SERVER], {
            "ERL_CRASH_DUMP": str(folder / "crash"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(folder),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(folder),
            "RABBITMQ_NODENAME": f"{name}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
    if docker := shutil.which("docker"):
        container = [docker, "run", "--rm", "--name", name, "--hostname", "localhost"]
        node = ["--env", f"RABBITMQ_NODENAME={name}@localhost"]
        place = ["--publish", f"127.0.0.1:{port}:5672", "--volume", f"{name}:/var/lib/rabbitmq"]
        return [*container, *node, *place, IMAGE], {}
    raise SystemExit(MISSING)


def _answers(url: str, name: str) -> bool:
    """Whether the server of this name answers there."""
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # ten lines for each time that it is not
    try:
        with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
            cluster: bytes | str = connection._impl.server_properties["cluster_name"]
            return name in str(cluster)
    except (OSError, pika.exceptions.AMQPError):
        return False
