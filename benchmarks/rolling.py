"""Rolling restarts of three web processes behind HAProxy, under load: no request may be dropped.

HAProxy asks each process once a second and believes the second failure, so it learns late; it never
tries a request again. A replica is replaced as on a cluster: the new one is ready first.
"""

import argparse
import itertools
import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from . import story
from .service import ENVIRONMENT, PACKAGE, environment, folder, generate, run
from .story import Load, free_ports, must, status, until

REPLICAS = 3
PLACES = 3 * REPLICAS  # for those that serve, those that drain and those that follow
LEAST = 1000  # requests beside each restart


class Roll:
    """A service's web processes, and the balancer before them."""

    def __init__(self, place: Path, service: Path, variables: Mapping[str, str]) -> None:
        self.place, self.service, self.variables = place, service, variables
        self.ports = free_ports(PLACES)
        self.turns = itertools.cycle(self.ports)
        (front,) = free_ports(1)
        self.front = f"127.0.0.1:{front}"
        self.serving: list[subprocess.Popen[bytes]] = []
        self.leaving: list[subprocess.Popen[bytes]] = []
        text = story.BALANCER + story.ENVIRONMENT.format(name="roll", port=front)
        text += "".join(f"    server {port} 127.0.0.1:{port}\n" for port in self.ports)
        (place / "haproxy.cfg").write_text(text)

    @contextmanager
    def up(self) -> Iterator[None]:
        """The replicas and the balancer, until the block ends."""
        command = ["haproxy", "-db", "-f", str(self.place / "haproxy.cfg")]
        with (self.place / "haproxy.log").open("w") as log:
            balancer = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                for _ in range(REPLICAS):
                    self.add()
                # It begins with every place in turn, and has yet to find out who is there.
                until("the balancer", lambda: all(self.answers() for _ in range(2 * PLACES)))
                yield
            finally:
                balancer.terminate()
                balancer.wait()
                for web in (*self.serving, *self.leaving):
                    web.kill()
                    web.wait()

    def answers(self) -> bool:
        return status(self.front, "/readyz") == 200

    def add(self) -> None:
        """Start a replica and wait until it is ready."""
        port = next(self.turns)
        with (self.place / "web.log").open("ab") as log:
            web = subprocess.Popen(
                [str(self.service / ".venv/bin/python"), "-m", PACKAGE, "web"],
                cwd=self.service,
                env={**self.variables, "PORT": str(port)},
                stdout=log,
                stderr=log,
            )
        self.serving.append(web)
        until("a web process", lambda: status(f"127.0.0.1:{port}", "/readyz") == 200)

    def restart(self) -> None:
        """Replace every replica by a new one, one after the other."""
        for _ in range(REPLICAS):
            self.add()
            old = self.serving.pop(0)
            old.terminate()
            self.leaving.append(old)
        while self.leaving:
            code = self.leaving[-1].wait()
            must(code == 0, f"a web process ended with {code}")
            self.leaving.pop()

    def under_load(self) -> tuple[Load, float]:
        """One rolling restart and what became of the requests beside it; its seconds."""
        load = Load(self.front)
        with load.running():
            began = time.monotonic()
            self.restart()
            seconds = time.monotonic() - began
            until("the load", lambda: load.counted.total() + len(load.failed) >= LEAST)
        return load, seconds


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("bin/bench roll", description=__doc__)
    parser.add_argument("--restarts", metavar="N", type=int, default=20)
    restarts = parser.parse_args(arguments).restarts
    if not shutil.which("haproxy"):
        parser.error("haproxy is missing: apt-get install haproxy, then try again")
    with folder() as place:
        service = generate(place)
        routes = service / f"src/{PACKAGE}/routes.py"
        routes.write_text(routes.read_text() + story.SLOW)
        run("bin/setup", cwd=service)
        with environment(service) as variables:
            variables = ENVIRONMENT | variables
            del variables["DRAIN_SECONDS"]  # development has none; production's counts
            roll = Roll(place, service, variables)
            with roll.up():
                rolled = [roll.under_load() for _ in range(restarts)]
            control = Roll(place, service, variables | {"DRAIN_SECONDS": "0"})
            with control.up():
                undrained, _ = control.under_load()
    whole = Load(roll.front)
    for load, _ in rolled:
        whole.counted += load.counted
        whole.failed += load.failed
    seconds = statistics.median(seconds for _, seconds in rolled)
    each = min(load.counted.total() for load, _ in rolled)
    print("| | Target | Figure |\n|---|---|---|")
    what = f"{restarts} rolling restarts of {REPLICAS} web processes behind HAProxy"
    print(f"| {what} | 0 failed | {whole.summary()} |")
    print(f"| Requests beside each of them, at least | {LEAST} | {each} |")
    print(f"| Seconds of each of them, the median |  | {seconds:.1f} |")
    print(f"| One of them without the drain | some failed | {undrained.summary()} |")
    for said, count in Counter(whole.failed).most_common(5):
        print(f"failed {count} times: {said}")
    return 1 if whole.failed or not undrained.failed else 0
