"""An environment on one engine: each release is a compose project of its own.

So the new processes are ready before the old ones hear of it, and a former release comes back as
it was. The web processes take the free ports of a range; a balancer in front of the range asks
/readyz of each and sends requests to those that are ready.
"""

import json
import os
import time
from typing import Any

from . import project, smoke
from .ledger import Ledger, Record
from .project import Failed, Refused, say
from dev.__main__ import ONE_OFF
from dev.services import processes

ALONE = {"clock"}  # the old one is gone before the new one starts
BEAT = "/tmp/heartbeat"
CLOSING_SECONDS = 10
EVERY_SECONDS = 0.5
LABEL = "delivery.environment"
MIGRATION_SECONDS = 600
PORT = 8000
READY_SECONDS = 120
READY = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/readyz', timeout=3)"
BEATS = f"import os, sys, time; sys.exit(time.time() - os.stat('{BEAT}').st_mtime > 60)"


class Compose:
    """The engine that `docker` reaches from here.

    Of the environment: DELIVERY_PORTS, the web processes' range, two for each; DELIVERY_REPLICAS,
    such as "web=2 worker=3"; DELIVERY_NETWORK, one that backing services are on; DELIVERY_SECONDS,
    the longest wait for readiness.
    """

    def __init__(self, environment: str) -> None:
        self.environment = environment
        self.ledger = Ledger(environment)
        self.dry_run = False

    def settings(self) -> dict[str, str]:
        return {}

    def fixed(self) -> set[str]:
        return set()

    def key(self) -> bytes:
        return self.ledger.key()

    def manifest(self, given: dict[str, str]) -> str:
        """The compose model; what is to be filled in comes from the environment of the command."""
        return json.dumps(model(self.environment, given), sort_keys=True)

    def rendered(self, release: str, image: str, given: dict[str, str]) -> str:
        return self.manifest(given)

    def keep(self, record: Record, given: dict[str, str]) -> None:
        self.ledger.add(record, given)

    def migrate(self, record: Record) -> None:
        if "release" not in json.loads(record.manifest)["services"]:
            return
        one_off = ("run", "--rm", "--no-deps", "-T", "release")
        try:
            self._compose(record, *one_off, seconds=MIGRATION_SECONDS)
        except (Failed, KeyboardInterrupt):
            if record.id not in self.ledger.history()[-1:]:
                self._compose(record, "down")
            raise

    def start(self, record: Record) -> None:
        services = json.loads(record.manifest)["services"]
        serving = [name for name in services if name not in ONE_OFF]
        self._up(record, *(name for name in serving if name not in ALONE))
        if "web" in services:
            self._smoke(record, services["web"]["deploy"]["replicas"])
        for process in (name for name in serving if name in ALONE):
            for other in self._others(record, process):
                self._show("docker", "compose", "--project-name", other, "stop", process)
            self._up(record, process)

    def back(self, record: Record, former: Record | None) -> None:
        if former and former.id == record.id:
            return  # what runs is all there is
        self._compose(record, "down")
        if former:
            self._up(former)

    def retire(self, record: Record) -> None:
        for other in self._others(record):
            self._show("docker", "compose", "--project-name", other, "down")

    def _up(self, record: Record, *services: str) -> None:
        self._compose(record, "up", "--detach", "--no-build", "--quiet-pull", *services)
        if self.dry_run:
            say(f"wait until every container of {record.id} is healthy")
            return
        # `up --wait` has returned 0 here when its time was over.
        seconds = float(os.environ.get("DELIVERY_SECONDS") or READY_SECONDS)
        deadline = time.monotonic() + seconds
        own = f"--filter=label=com.docker.compose.project={record.id}"
        while True:
            form = "--format={{.Names}}: {{.Status}}"
            found = project.output("docker", "ps", "--all", own, form).splitlines()
            waiting = [line for line in found if not line.endswith("(healthy)")]
            if found and not waiting:
                return
            if time.monotonic() > deadline:
                said = ", ".join(waiting) or "no container is there"
                raise Failed(f"not ready within {seconds:g} s: {said}")
            time.sleep(EVERY_SECONDS)

    def _smoke(self, record: Record, replicas: int) -> None:
        """Ask each web process, before the balancer's other half is taken away."""
        for number in range(1, replicas + 1):
            words = ("port", f"--index={number}", "web", str(PORT))
            if self.dry_run:
                say(f"$ bin/smoke the address of web {number}")
                continue
            command = ("docker", "compose", "--project-name", record.id, "--file", "-", *words)
            address = project.output(*command, given=record.manifest, env=self._environment(record))
            say(smoke.smoke(f"http://{address.strip()}", record.id))

    def _others(self, record: Record, process: str = "") -> list[str]:
        """The projects of this environment that have containers, or one of this process."""
        labels = [f"{LABEL}={project.name()}/{self.environment}"]
        labels += [f"com.docker.compose.service={process}"] if process else []
        filters = [f"--filter=label={label}" for label in labels]
        form = '--format={{.Label "com.docker.compose.project"}}'
        found = project.output("docker", "ps", "--all", *filters, form).split()
        return sorted({*found} - {record.id})

    def _compose(self, record: Record, *words: str, seconds: float | None = None) -> None:
        command = ("docker", "compose", "--project-name", record.id, "--file", "-", *words)
        if self.dry_run:
            say(record.manifest)
        self._show(*command, record=record, seconds=seconds)

    def _show(
        self, *command: str, record: Record | None = None, seconds: float | None = None
    ) -> None:
        project.show(
            *command,
            cwd=self.ledger.folder,  # compose would read a compose.yaml that lies here
            dry_run=self.dry_run,
            env=self._environment(record) if record else None,
            given=record.manifest if record else None,
            seconds=seconds,
        )

    def _environment(self, record: Record) -> dict[str, str]:
        """What the model leaves open: compose hands these on, and no file shows the values."""
        ours = {"IMAGE": record.image, "RELEASE_ID": record.id}
        return {**os.environ, **self.ledger.given(record), **ours}


def model(environment: str, given: dict[str, str]) -> dict[str, Any]:
    """The processes of the Procfile that a platform starts, as compose takes them."""
    replicas = _replicas()
    names = [name for name in processes() if name == "release" or name not in ONE_OFF]
    found: dict[str, Any] = {
        "services": {name: _service(name, environment, given, replicas) for name in names}
    }
    if network := os.environ.get("DELIVERY_NETWORK"):
        found["networks"] = {"default": {"external": True, "name": network}}
    return found


def _service(
    process: str, environment: str, given: dict[str, str], replicas: dict[str, int]
) -> dict[str, Any]:
    service: dict[str, Any] = {
        "cap_drop": ["ALL"],
        "command": [process],
        "environment": dict.fromkeys([*given, "RELEASE_ID"]),
        "image": "${IMAGE}",
        "labels": {LABEL: f"{project.name()}/{environment}"},
        "logging": {"driver": "local"},  # rotates by itself
        "read_only": True,
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": ["/tmp"],
        "user": "10001:10001",
    }
    if process in ONE_OFF:
        return service | {"profiles": ["one-off"], "restart": "no"}
    test = READY if process == "web" else BEATS
    service |= {
        "deploy": {"replicas": replicas.get(process, 2 if process == "web" else 1)},
        "healthcheck": {
            "test": ["CMD", "python", "-c", test],
            "interval": "10s",
            "retries": 3,
            "start_interval": "1s",
            "start_period": "60s",
            "timeout": "5s",
        },
        "restart": "unless-stopped",
        "stop_grace_period": f"{_grace(process, given):g}s",
    }
    if process == "web":
        ports = os.environ.get("DELIVERY_PORTS") or "127.0.0.1:8100-8107"
        service["environment"]["PORT"] = str(PORT)
        service["ports"] = [f"{ports}:{PORT}"]
    else:
        service["environment"]["HEARTBEAT_FILE"] = BEAT
    return service


def _grace(process: str, given: dict[str, str]) -> float:
    """Seconds from SIGTERM to SIGKILL: the drain, the work in hand, and the time to close."""
    counted = ["GRACE_SECONDS", *(["DRAIN_SECONDS"] if process == "web" else [])]
    defaults = project.settings()
    try:
        return CLOSING_SECONDS + sum(float(given.get(name) or defaults[name]) for name in counted)
    except ValueError:
        raise Refused(f"{' and '.join(counted)} are numbers of seconds.") from None


def _replicas() -> dict[str, int]:
    """How many of each process: DELIVERY_REPLICAS, such as "web=2 worker=3"."""
    wanted = os.environ.get("DELIVERY_REPLICAS") or ""
    try:
        found = {name: int(number) for name, number in (one.split("=") for one in wanted.split())}
    except ValueError:
        raise Refused(f'DELIVERY_REPLICAS is {wanted!r}: write it like "web=2 worker=3".') from None
    if strange := sorted(found.keys() - processes().keys() | {n for n in found if n in ALONE}):
        raise Refused(f"The number of {', '.join(strange)} cannot be chosen: leave it out.")
    return found
