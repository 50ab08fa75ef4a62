"""That nothing is lost: processes and brokers killed at random moments, then what is there counted.

Every start and end of a job is a line in a file of its process, written at once; every effect is
in the backing store. So what is counted survives the kills, and nothing is taken from a log.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from dev.server import free_port

from .service import ENVIRONMENT, PACKAGE, ROOT, START_SECONDS, folder, ready, run

DOCUMENT = ROOT / "docs" / "durability.md"
EFFECTS = Path(__file__).with_name("effects")
PYTHON = ".venv/bin/python"

JOBS, KILLS, SEED = 2000, 10, 1
JOBS_PER_SECOND = 25  # what two workers manage between two kills several times over: no backlog
LONGEST_SECONDS = 0.5
TICK_SECONDS = 5
QUIET_SECONDS = 2  # nothing waits, runs or is redelivered for so long: it is over

CLIENTS = 20
ORDER_KILLS = 10
HELD_JOBS, HELD_SECONDS, GRACE_SECONDS = 20, 10, 3
GOOD_JOBS, POISON_ATTEMPTS = 20, 3


@dataclass(frozen=True)
class Case:
    answers: tuple[str, ...]
    servers: tuple[str, ...]  # the last is the broker
    rescued: Callable[[float], float]
    """Seconds after which a dead worker's jobs are given to others, by WORKER_STALLED_SECONDS."""

    @property
    def relays(self) -> tuple[str, ...]:
        """What takes jobs from the database to another broker."""
        return ("relay-1", "relay-2") if len(self.servers) > 1 else ()


CASES = {
    "postgres": Case(
        ("services=[postgres]",), ("postgres",), lambda stalled: stalled + stalled / 3
    ),
    # It sees a dead worker's connection close; at the latest, no heartbeat comes.
    "rabbitmq": Case(
        ("services=[postgres]", "broker=rabbitmq"), ("postgres", "rabbitmq"), lambda stalled: 10
    ),
    "redis": Case(
        ("services=[postgres,redis]", "broker=redis"),
        ("postgres", "redis"),
        lambda stalled: stalled + stalled / 3,
    ),
    "redis-alone": Case(
        ("services=[redis]", "broker=redis"), ("redis",), lambda stalled: stalled + stalled / 3
    ),
}
SETTINGS = {
    "the defaults": {},
    "short": {"WORKER_STALLED_SECONDS": "3"},
}
WORKERS = ("worker-1", "worker-2")
TITLES = {
    "kills": "{jobs:,} jobs, {kills} `kill -9` among two workers, {others} among two {helpers}, "
    "one of the broker",
    "orders": f"{CLIENTS} clients send orders, each of them a row and a job; {ORDER_KILLS} "
    "`kill -9` of the web process",
    "sigterm": f"SIGTERM to two workers with jobs of {HELD_SECONDS} s in hand, "
    f"`GRACE_SECONDS={GRACE_SECONDS}`",
    "poison": f"A job of {POISON_ATTEMPTS} attempts that kills its worker, among {GOOD_JOBS} good "
    "ones",
}


@dataclass(frozen=True)
class Attempt:
    """One run of a job's handler, as its process noted it."""

    pid: int
    key: str
    number: int  # as the broker counts: 1 for the first
    began: float
    ended: float
    end: str | None  # None: it was killed


@dataclass
class Told:
    """What is there."""

    effects: Counter[str]
    orders: set[str]
    waiting: int
    failed: int
    versions: str


@dataclass
class World:
    """A service on servers of its own; what ends there is started again, as a platform does."""

    service: Path
    folder: Path
    environment: dict[str, str]
    stack: contextlib.ExitStack
    case: Case
    servers: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    died: dict[int, float] = field(default_factory=dict)
    away: tuple[float, float] = (math.inf, math.inf)  # when the broker was killed, and was back
    said: dict[str, int] = field(default_factory=dict)  # bytes in its log before its last start
    ended: Counter[int] = field(default_factory=Counter)  # exit codes of what nobody told to end

    @property
    def traces(self) -> Path:
        return self.folder / "traces"

    @property
    def rescued_seconds(self) -> float:
        return self.case.rescued(float(self.environment.get("WORKER_STALLED_SECONDS", 0)))

    def spawn(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                [PYTHON, "-m", *words],
                cwd=self.service,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.stack.callback(end, process)
        return process

    def start(self, *names: str) -> None:
        """Start processes, each named by its type and a number."""
        for name in names:
            log = self.folder / f"{name}.log"
            self.said[name] = log.stat().st_size if log.exists() else 0
            self.processes[name] = self.spawn(PACKAGE, process_type(name), log=name)

    def is_up(self, name: str) -> bool:
        """Whether it has said that it works."""
        return b".started" in (self.folder / f"{name}.log").read_bytes()[self.said[name] :]

    def effects(self, *words: str) -> subprocess.Popen[bytes]:
        return self.spawn(f"{PACKAGE}.effects", *words, log="effects")

    def kill(self, name: str) -> None:
        process = self.processes[name]
        process.kill()
        self.died[process.pid] = time.time()
        process.wait()
        self.start(name)

    def tend(self) -> None:
        """Start again what has ended."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.ended[process.returncode] += 1
                self.died[process.pid] = time.time()
                self.start(name)

    def stop(self, *names: str) -> list[tuple[int, float]]:
        """SIGTERM to these, or all, at once: the exit code of each, and how long it took."""
        began = time.time()
        running = [self.processes.pop(name) for name in names or list(self.processes)]
        for process in running:
            process.terminate()
            self.died[process.pid] = began
        return [(process.wait(), time.time() - began) for process in running]

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not done() and time.monotonic() < deadline:
            self.tend()
            time.sleep(0.02)

    def crash(self) -> None:
        """Kill the broker, then start it on the same data and port."""
        name = self.case.servers[-1]
        self.died[self.servers[name].pid] = gone = time.time()
        if not ask(self.servers[name]).items() <= self.environment.items():
            sys.exit(f"{name} came back elsewhere, so its clients cannot find it.")
        self.away = gone, time.time()

    def tell(self) -> Told:
        told = ask(self.teller)
        return Told(**told | {"effects": Counter(told["effects"]), "orders": set(told["orders"])})

    @cached_property
    def teller(self) -> subprocess.Popen[str]:
        with (self.folder / "effects.log").open("ab") as log:
            process = subprocess.Popen(
                [PYTHON, "-m", f"{PACKAGE}.effects", "tell"],
                cwd=self.service,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.stack.callback(end, process)
        return process

    def keep(self, place: Path) -> None:
        shutil.copytree(self.traces, place / "traces", dirs_exist_ok=True)
        for log in self.folder.glob("*.log"):
            shutil.copy(log, place)

    def accepted(self) -> set[str]:
        return {key for _, word, _, _, _, key in self.lines() if word == "accepted"}

    def lines(self) -> Iterator[tuple[float, str, int, int, int, str]]:
        for path in self.traces.iterdir():
            for line in path.read_text().splitlines():
                at, word, nth, number, key = line.split()
                yield float(at), word, int(path.name), int(nth), int(number), key

    def attempts(self) -> list[Attempt]:
        lines = list(self.lines())
        ends = {(pid, nth): (at, word) for at, word, pid, nth, _, _ in lines if word != "start"}
        attempts = []
        for at, word, pid, nth, number, key in lines:
            if word == "start":
                ended, end = ends.get((pid, nth), (self.died.get(pid, math.inf), None))
                attempts.append(Attempt(pid, key, number, at, ended, end))
        return attempts

    def settle(self, wanted: Callable[[], set[str]], seconds: float, failed: int = 0) -> Told:
        """Wait until all that is wanted has had its effect and nothing waits or runs any more.

        failed: wait for so many too: RabbitMQ does not count what a worker holds back.
        """
        quiet = time.monotonic()
        deadline = quiet + seconds
        while True:
            self.tend()
            told = self.tell()
            living = {process.pid for process in self.processes.values()}
            runs = any(a.end is None and a.pid in living for a in self.attempts())
            if told.waiting or runs or wanted() - told.effects.keys() or told.failed < failed:
                quiet = time.monotonic()
            if time.monotonic() > min(deadline, quiet + QUIET_SECONDS):
                return told
            time.sleep(0.2)


Rows = dict[str, str]  # what was counted, and the figure


@dataclass
class Judged:
    """The figures of a trial, and which of them must not be."""

    rows: Rows = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, what: str, figure: object) -> None:
        self.rows[what] = f"{figure:,}" if isinstance(figure, int) else str(figure)

    def none(self, what: str, found: int) -> None:
        """Add a count that must be 0."""
        self.add(what, found)
        if found:
            self.faults.append(f"{what}: {found}")

    def kept(self, told: Told, wanted: set[str]) -> None:
        self.none("Lost", len(wanted - told.effects.keys()))
        self.none("Effects counted twice", sum(told.effects.values()) - len(told.effects))


def kills(world: World, random_: random.Random, jobs: int, kills: int) -> Judged:
    """Kill processes while jobs come in, and the broker once."""
    seconds = max(jobs / JOBS_PER_SECOND, 2 * kills)
    clocks = ("clock-1", "clock-2")
    world.start(*WORKERS, *clocks, *world.case.relays)
    events: list[tuple[float, Callable[[], None]]] = [(seconds / 2, world.crash)]
    for names in (WORKERS, clocks, world.case.relays):
        for _ in range((kills if names == WORKERS else kills // 2) if names else 0):
            kill = partial(kill_one, world, random_.choice(names))
            events.append((random_.uniform(1, seconds), kill))
    seed = str(random_.random())
    world.until(world.attempts)  # the first tick is done
    producer = world.effects("enqueue", "job", str(jobs), str(seconds), str(LONGEST_SECONDS), seed)
    began = time.monotonic()
    for at, happen in sorted(events, key=lambda event: event[0]):
        while time.monotonic() < began + at:
            world.tend()
            time.sleep(0.02)
        happen()
    while producer.poll() is None:
        world.tend()
        time.sleep(0.02)
    over = time.time()  # from here on a clock is left alone: what it owes it makes up for
    world.until(lambda: any(a.began > over and is_tick(a) for a in world.attempts()))
    told = world.settle(world.accepted, patience(world))
    until = time.time() - TICK_SECONDS
    world.stop()

    judged, accepted, attempts = Judged(), world.accepted(), world.attempts()
    if len(accepted) != jobs:
        judged.faults.append(f"the producer ended after {len(accepted)} jobs of {jobs}")
    judged.add("Jobs accepted", len(accepted))
    judged.kept(told, accepted)
    judged.add("Entered again after the effect", sum(a.end == "again" for a in attempts))
    judged.add("Begun while another attempt ran", overlaps(attempts))
    interrupted = sum(attempt.end is None for attempt in attempts)
    judged.add("Attempts that a kill interrupted", interrupted)
    if kills and not interrupted:
        judged.faults.append("no kill met a job in hand, so nothing was tried: take another seed")
    latest, late = redelivery(world, attempts)
    judged.add("Latest redelivery", latest)
    judged.none("Redelivered after their bound", late)
    judged.add("Processes that ended by themselves", sum(world.ended.values()))
    expected, missed, doubled = ticks(attempts, until)
    judged.add("Ticks expected", expected)
    judged.none("Ticks missed", missed)
    judged.none("Ticks doubled", doubled)
    return judged


def patience(world: World) -> float:
    """How long to wait before what is not there counts as lost: several redeliveries."""
    return 60 + 3 * world.rescued_seconds


def kill_one(world: World, name: str) -> None:
    """Kill a process once both of its type are up: one is left to do what the other had to."""
    both = [other for other in world.processes if process_type(other) == process_type(name)]
    world.until(lambda: all(map(world.is_up, both)))
    world.kill(name)


def redelivery(world: World, attempts: list[Attempt]) -> tuple[str, int]:
    """The redelivery that came closest to its bound or went furthest beyond; how many went beyond.

    An attempt that the broker counted and no worker noted died in the hand of one that had not
    begun it. Each death of a worker that had the job allows as long again, and nothing else does
    but the seconds in which the broker was away: nobody could take a job from it.
    """

    def served(at: float) -> float:
        """The time by a clock that stands still while the broker is away."""
        gone, back = world.away
        return at - max(0, min(at, back) - gone)

    dead = {attempt.pid for attempt in attempts} | {world.servers[world.case.servers[-1]].pid}
    deaths = sorted(at for pid, at in world.died.items() if pid in dead)
    waits: list[tuple[float, str, bool]] = []
    for first in [attempt for attempt in attempts if attempt.end is None]:
        later = [a for a in attempts if a.key == first.key and a.began > first.ended]
        if not later:
            continue  # counted as lost, unless it had had its effect
        again = min(later, key=lambda attempt: attempt.began)
        between = [at for at in deaths if first.ended < at < again.began]
        numbers = range(first.number, max(again.number, first.number + 1))[: len(between) + 1]
        # The delay before another attempt doubles with each, give or take a half.
        bounds = [world.rescued_seconds + 1.5 * 2 ** (number - 1) for number in numbers]
        in_time = any(
            all(
                served(then) - served(at) <= bound
                for bound, (at, then) in zip(
                    bounds, pairwise([first.ended, *others, again.began]), strict=True
                )
            )
            for others in combinations(between, len(bounds) - 1)
        )
        waited, bound = served(again.began) - served(first.ended), sum(bounds)
        waits.append((waited / bound, f"{waited:.1f} s (bound: {bound:.1f} s)", in_time))
    return max(waits, default=(0, "none", True))[1], sum(not in_time for _, _, in_time in waits)


def overlaps(attempts: list[Attempt]) -> int:
    """How many attempts began while another of the same job was running."""
    found, until = 0, dict[str, float]()
    for attempt in sorted(attempts, key=lambda attempt: attempt.began):
        found += attempt.began < until.get(attempt.key, 0)
        until[attempt.key] = max(attempt.ended, until.get(attempt.key, 0))
    return found


def is_tick(attempt: Attempt) -> bool:
    return attempt.key.startswith("tick-")


def ticks(attempts: list[Attempt], until: float) -> tuple[int, int, int]:
    """How many ticks there were to be, and how many of them were missed and doubled.

    A tick's job does not know its time: it counts for the last one before its start that has none.
    """
    first: dict[str, float] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.began):
        if is_tick(attempt):
            first.setdefault(attempt.key, attempt.began)
    starts = sorted(first.values())
    if not starts:
        return 0, 1, 0
    begin = int(starts[0] // TICK_SECONDS)
    free = list(range(begin - 1, int(until // TICK_SECONDS) + 3))
    expected = {slot for slot in free if begin < slot <= until // TICK_SECONDS}
    doubled = 0
    for start in starts:
        if slots := [slot for slot in free if slot * TICK_SECONDS <= start]:
            free.remove(slots[-1])
        else:
            doubled += 1
    return len(expected), len(expected & set(free)), doubled


def orders(world: World, random_: random.Random) -> Judged:
    """Kill a web process while each request inserts an order and enqueues its job."""
    world.start("web-1", *WORKERS, *world.case.relays)
    answered, outcomes = asyncio.run(storm(world, random_))
    told = world.settle(lambda: world.tell().orders, patience(world))
    world.stop()

    judged = Judged()
    judged.add("Orders", len(told.orders))
    judged.add("Requests that a kill cut off", outcomes["cut off"])
    judged.add("Requests answered with an error", outcomes["failed"])
    judged.none("Orders without a job", len(told.orders - told.effects.keys()))
    judged.none("Jobs without an order", len(told.effects.keys() - told.orders))
    judged.none("Orders confirmed and not there", len(answered - told.orders))
    judged.none("Effects counted twice", sum(told.effects.values()) - len(told.effects))
    return judged


async def storm(world: World, random_: random.Random) -> tuple[set[str], Counter[str]]:
    """Orders from many clients at once until the last kill: those confirmed, and all outcomes."""
    web = int(world.environment["PORT"])
    answered: set[str] = set()
    outcomes: Counter[str] = Counter()

    async def order(client: int) -> None:
        while True:
            key = f"order-{client}-{outcomes.total()}"
            outcome = await post(web, f"/orders/{key}")
            outcomes[outcome] += 1
            if outcome == "answered":
                answered.add(key)
            elif outcome == "refused":
                await asyncio.sleep(0.02)

    async with asyncio.timeout(START_SECONDS * ORDER_KILLS):
        clients = [asyncio.create_task(order(client)) for client in range(CLIENTS)]
        for _ in range(ORDER_KILLS):
            before = len(answered)
            while len(answered) < before + CLIENTS:  # noqa: ASYNC110  # it is up, and busy
                await asyncio.sleep(0.01)
            await asyncio.sleep(random_.uniform(0, 1))
            world.kill("web-1")
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    return answered, outcomes


async def post(port: int, path: str) -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused"
    try:
        head = "Host: trial\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        writer.write(f"POST {path} HTTP/1.1\r\n{head}".encode())
        answer = await reader.read()
    except OSError:
        answer = b""
    finally:
        writer.close()
    if answer.startswith(b"HTTP/1.1 201"):
        return "answered"
    return "failed" if answer else "cut off"


def sigterm(world: World) -> Judged:
    """SIGTERM to two workers whose jobs take longer than the grace; then two others work."""
    world.start(*WORKERS, *world.case.relays)
    world.effects("hold", "held", str(HELD_JOBS), str(HELD_SECONDS)).wait()
    world.until(lambda: len(world.attempts()) >= HELD_JOBS)
    asked = time.time()
    exits = world.stop(*WORKERS)
    first = {attempt.pid for attempt in world.attempts()}
    world.start("worker-3", "worker-4")
    told = world.settle(world.accepted, patience(world))
    world.stop()

    judged, attempts = Judged(), world.attempts()
    unfinished = {a.key for a in attempts if a.pid in first and a.end != "counted"}
    others = [a for a in attempts if a.pid not in first and a.key in unfinished]
    judged.add("Jobs in hand at SIGTERM", sum(a.began < asked for a in attempts))
    judged.add("Unfinished after the grace", len(unfinished))
    judged.add("Done by other workers", len({a.key for a in others if a.end == "counted"}))
    judged.kept(told, world.accepted())
    # No worker died, so there is no reason to run a job again.
    judged.none("Entered again after the effect", sum(a.end == "again" for a in attempts))
    judged.none("Begun while another attempt ran", overlaps(attempts))
    codes = ", ".join(str(code) for code, _ in exits)
    judged.add("Exit", f"{codes} after {max(seconds for _, seconds in exits):.1f} s")
    again = {a.key: a.began - asked for a in sorted(others, key=lambda a: -a.began)}
    latest = f"{max(again.values()):.1f} s" if again else "none"
    judged.add("Latest redelivery, from SIGTERM", latest)
    if len(unfinished) < HELD_JOBS:
        judged.faults.append(f"only {len(unfinished)} of {HELD_JOBS} jobs were cut off")
    return judged


def poison(world: World) -> Judged:
    """A job that kills its worker among good ones."""
    world.start(*WORKERS, *world.case.relays)
    world.effects("poison", str(GOOD_JOBS)).wait()
    told = world.settle(world.accepted, POISON_ATTEMPTS * patience(world), failed=1)
    world.stop()

    judged = Judged()
    judged.add("Good jobs", GOOD_JOBS)
    judged.kept(told, world.accepted())
    starts = sum(attempt.key == "poison" for attempt in world.attempts())
    judged.add("Attempts of the poison job", starts)
    judged.add("Deaths of workers", world.ended[-signal.SIGKILL])
    judged.add("Kept as failed", told.failed)
    if (starts, told.failed) != (POISON_ATTEMPTS, 1):
        judged.faults.append(f"the poison job is not put aside after {POISON_ATTEMPTS} attempts")
    return judged


def process_type(name: str) -> str:
    return name.partition("-")[0]


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End a helper by the end of its input, which gives it time for its server, or a process."""
    if process.stdin:
        process.stdin.close()
    elif process.poll() is None:
        process.terminate()
    process.wait()
    if process.stdout:
        process.stdout.close()


def ask(process: subprocess.Popen[str], line: str = "") -> dict[str, Any]:
    """A line of input answered by a line of JSON."""
    print(line, file=process.stdin, flush=True)
    return answer(process)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        sys.exit("A helper process ended too early: nothing was tried.")
    told: dict[str, Any] = json.loads(line)
    return told


def prepare(place: Path, name: str) -> Path:
    """A service with this broker and with our jobs, tables and routes."""
    case = CASES[name]
    service = ready(place, "example=false", "kubernetes=false", *case.answers, name=name)
    package = service / "src" / PACKAGE
    shutil.copytree(EFFECTS, package / "effects", ignore=shutil.ignore_patterns("__pycache__"))
    store = case.servers[0]  # effects are in the database, where there is one
    (package / "effects" / f"in_{store}.py").rename(package / "effects" / "store.py")
    parts = {"JOBS": "jobs", "SCHEDULES": "schedule"}
    if store == "postgres":
        parts["ROUTES"] = "web"
    with (package / "parts.py").open("a") as lists:
        lists.writelines(f'{slot}.append("effects.{part}")\n' for slot, part in parts.items())
    return service


@contextlib.contextmanager
def world(service: Path, name: str, extra: dict[str, str]) -> Iterator[World]:
    """Servers with nothing on them, a migrated and empty store, no process yet."""
    case = CASES[name]
    with folder() as place, contextlib.ExitStack() as stack:
        (place / "traces").mkdir()
        example = "import json; from dev import services; print(json.dumps(services.example()))"
        environment = {
            **ENVIRONMENT,
            **json.loads(run(PYTHON, "-c", example, cwd=service)),
            "BROKER": name.partition("-")[0],
            "PORT": str(free_port()),
            "TRACES": str(place / "traces"),
            **extra,
        }
        made = World(service, place, environment, stack, case)
        for server in case.servers:
            process = subprocess.Popen(
                [PYTHON, "-m", f"{PACKAGE}.effects.server", server, str(place / server)],
                cwd=service,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(end, process)
            made.servers[server] = process
            environment |= answer(process)
        if (service / "src" / PACKAGE / "release.py").exists():
            run(PYTHON, "-m", PACKAGE, "release", cwd=service, env=environment)
        run(PYTHON, "-m", f"{PACKAGE}.effects", "make", cwd=service, env=environment)
        yield made


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("bin/bench durability", description=__doc__)
    parser.add_argument("brokers", nargs="*", metavar="BROKER", help=", ".join(CASES))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--parts", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--keep", type=Path, help="a folder for the logs and the traces")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.brokers) - CASES.keys():
        parser.error(f"there is no {', '.join(unknown)}: name some of {', '.join(CASES)}")
    sizes = {key: vars(chosen)[key] for key in ("jobs", "kills", "parts", "settings")}
    faults: list[str] = []
    for name in chosen.brokers or CASES:
        with folder() as place:
            section, found = trial(prepare(place, name), name, chosen)
        print(section, flush=True)
        faults += found
        if all(parser.get_default(key) == value for key, value in sizes.items()):
            write(name, section)
    for fault in faults:
        print(fault, file=sys.stderr)
    return bool(faults)


def trial(service: Path, name: str, chosen: argparse.Namespace) -> tuple[str, list[str]]:
    """Everything that is tried with one broker: its section of the document, and the faults."""

    def seeded(what: str) -> random.Random:
        return random.Random(f"{chosen.seed} {name} {what}")  # noqa: S311

    grace = {"GRACE_SECONDS": str(GRACE_SECONDS)}
    judges: dict[str, dict[str, tuple[dict[str, str], Callable[[World], Judged]]]] = {
        "kills": {
            setting: (
                SETTINGS[setting],
                partial(kills, random_=seeded(setting), jobs=chosen.jobs, kills=chosen.kills),
            )
            for setting in chosen.settings
        },
        "orders": {"": (SETTINGS["short"], partial(orders, random_=seeded("orders")))},
        "sigterm": {"": (SETTINGS["short"] | grace, sigterm)},
        "poison": {"": (SETTINGS["short"], poison)},
    }
    if "postgres" not in CASES[name].servers:
        del judges["orders"]  # there is no transaction that a job could join
    section, faults, versions = "", [], ""
    for part in [part for part in judges if part in chosen.parts]:
        columns: list[Rows] = []
        for setting, (extra, judge) in judges[part].items():
            print(f"{name}: {part} {setting}", file=sys.stderr, flush=True)
            with world(service, name, extra) as here:
                judged = judge(here)
                versions = here.tell().versions
                if chosen.keep:
                    here.keep(chosen.keep / f"{name}-{part}-{setting or 'short'}")
            columns.append(judged.rows)
            faults += [f"{name}, {part} {setting}: {fault}" for fault in judged.faults]
        helpers = "clocks and as many among two relays" if CASES[name].relays else "clocks"
        title = TITLES[part].format(
            jobs=chosen.jobs, kills=chosen.kills, others=chosen.kills // 2, helpers=helpers
        )
        section += f"\n| {title} | {' | '.join(judges[part])} |\n|---{'|--:' * len(columns)}|\n"
        for what in columns[0]:
            section += f"| {what} | {' | '.join(column[what] for column in columns)} |\n"
    made = f"`bin/bench durability {name} --seed {chosen.seed}`"
    where = f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores"
    return f"## {name}\n\nBy {made}: {versions}, {where}.\n{section}", faults


def write(name: str, section: str) -> None:
    """Put a broker's section into the document, in place of the one of an earlier run."""
    head, *sections = re.split(r"^(?=## )", DOCUMENT.read_text(), flags=re.M)
    kept = {text.split()[1]: text.rstrip() + "\n" for text in sections} | {name: section}
    DOCUMENT.write_text("\n".join([head.rstrip() + "\n", *(kept[x] for x in CASES if x in kept)]))
