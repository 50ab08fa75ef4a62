"""What a job costs by the service's queue, against the bare library on the same broker."""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .durability import CASES, PYTHON, ask, end
from .effects.server import family
from .service import PACKAGE, Row, environment, folder, ready, run

COST = Path(__file__).with_name("cost")
JOBS, ROUNDS, WARM_UP = 1000, 5, 200
TOGETHER = 100  # enqueued in one transaction
SETTLE_SECONDS = 0.3  # for acknowledging the last jobs
SECONDS = 120
TARGET = "1.15"
AT_ONCE = (1, 10, 50)
WORKERS = {"library": "the library's worker", "lean": "a lean loop"}
LABELS = {
    "job": "a job of a full queue",
    "live": "a job as it comes",
    "relay": "its way from the outbox to the broker",
    "together": f"an enqueue, {TOGETHER} in a transaction",
    "alone": "an enqueue, each for itself",
    "change": "a change with its job, each for itself",
}


@dataclass
class Side:
    """A worker and a process that enqueues for it."""

    workers: dict[str, subprocess.Popen[bytes]]  # by what their cost is called
    enqueuer: subprocess.Popen[str]
    done: Path

    def measure(self, jobs: int) -> dict[str, float]:
        """CPU-ms an enqueue, each way, and a job: of a full queue, and as it comes."""
        families = {
            what: [worker.pid, *family(worker.pid)] for what, worker in self.workers.items()
        }
        for members in families.values():
            signal_all(members, signal.SIGSTOP)
        costs: dict[str, float] = ask(self.enqueuer, str(jobs))
        count = len(costs) * jobs

        def cost(what: str, wait: Callable[[], object]) -> float:
            before = cpu(families[what])
            signal_all(families[what], signal.SIGCONT)
            wait()
            time.sleep(SETTLE_SECONDS)
            return (cpu(families[what]) - before) / count * 1000

        def all_done() -> None:
            self.await_done(count)

        def as_they_come() -> None:
            ask(self.enqueuer, str(jobs))
            all_done()

        if "relay" in families:
            costs["relay"] = cost("relay", lambda: ask(self.enqueuer))  # until all are sent on
        return costs | {"job": cost("job", all_done), "live": cost("job", as_they_come)}

    def await_done(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.done.exists() or self.done.stat().st_size < count:
            ended = any(worker.poll() is not None for worker in self.workers.values())
            if ended or time.monotonic() > deadline:
                sys.exit("A worker does not do its jobs, so there is nothing to measure.")
            time.sleep(0.01)
        os.truncate(self.done, 0)


def signal_all(members: list[int], number: signal.Signals) -> None:
    for member in members:
        os.kill(member, number)


def cpu(members: list[int]) -> float:
    """Seconds of these processes, each by its own clock."""
    return sum(time.clock_gettime((~member << 3) | 2) for member in members)


@dataclass
class Trial:
    """A service on its broker, and the bare libraries beside it."""

    name: str
    broker: str
    service: Path
    place: Path
    environment: dict[str, str]
    jobs: int
    rounds: int

    @contextlib.contextmanager
    def side(
        self,
        work: list[str],
        enqueue: list[str],
        extra: dict[str, str],
        *,
        relay: list[str] | None = None,
        python: str = PYTHON,
    ) -> Iterator[Side]:
        done = self.place / f"done-{time.monotonic_ns()}"
        env = self.environment | extra | {"DONE": str(done)}
        with contextlib.ExitStack() as stack:
            workers = {}
            for what, command in {"job": work, "relay": relay}.items():
                if command:
                    workers[what] = worker = subprocess.Popen(
                        [python, *command],
                        cwd=self.service,
                        env=env,
                        start_new_session=True,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
                    stack.callback(worker.wait)
                    stack.callback(os.killpg, worker.pid, signal.SIGKILL)  # it may be stopped
            enqueuer = subprocess.Popen(
                [python, *enqueue],
                cwd=self.service,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(end, enqueuer)
            side = Side(workers, enqueuer, done)
            side.await_done(WARM_UP * len(ask(enqueuer, str(WARM_UP))))
            yield side

    def ours(self) -> contextlib.AbstractContextManager[Side]:
        enqueue = f"from {PACKAGE} import ours; ours.enqueue()"
        has_relay = (self.service / "src" / PACKAGE / "relay.py").exists()
        return self.side(
            ["-m", PACKAGE, "worker"],
            ["-c", enqueue],
            {},
            relay=["-m", PACKAGE, "relay"] if has_relay else None,
        )

    def bare(self) -> contextlib.AbstractContextManager[Side]:
        module = "on_procrastinate" if self.broker == "postgres" else "on_dramatiq"
        run_it = ["-c", f"import {module}; {module}.main()"]
        return self.side([*run_it, "work"], [*run_it, "enqueue"], self.apart("bare", 1))

    def celery(self) -> contextlib.AbstractContextManager[Side]:
        python = self.place / "celery"
        run("uv", "venv", "--quiet", "--python", PYTHON, str(python), cwd=self.service)
        package = "celery[redis]" if self.broker == "redis" else "celery"
        target = ["--python", str(python / "bin/python")]
        run("uv", "pip", "install", "--quiet", *target, package, cwd=self.service)
        options = ["--pool=prefork", "--concurrency=1", "--loglevel=ERROR"]
        return self.side(
            ["-m", "celery", "--app=on_celery", "worker", *options],
            ["-m", "on_celery"],
            self.apart("", 2),
            python=str(python / "bin/python"),
        )

    def batch(self, worker: str, at_once: int) -> contextlib.AbstractContextManager[Side]:
        extra = self.apart(f"batch_{worker}_{at_once}", 0) | {"AT_ONCE": str(at_once)}
        enqueue = ["-c", "import on_procrastinate as bare; bare.main()", "enqueue"]
        work = ["-c", "import on_batch; on_batch.main()", worker]
        return self.side(work, enqueue, extra)

    def apart(self, database: str, number: int) -> dict[str, str]:
        """A place of its own on the same server; queues of RabbitMQ differ in name."""
        if self.broker == "postgres":
            url = self.environment["DATABASE_URL"].rpartition("/")[0] + f"/{database}"
            env = self.environment | {"DATABASE_URL": url}
            make = "import on_procrastinate; on_procrastinate.make()"
            run(PYTHON, "-c", make, cwd=self.service, env=env)
            return {"DATABASE_URL": url}
        if self.broker == "redis":
            url = self.environment["REDIS_URL"].rpartition("/")[0] + f"/{number}"
            return {"REDIS_URL": url}
        return {}

    def compare(self) -> Iterator[Row]:
        """Both sides in turns, so that what else the machine does meets both alike."""
        with self.ours() as ours, self.bare() as bare:
            rounds = [
                (ours.measure(self.jobs), bare.measure(self.jobs)) for _ in range(self.rounds)
            ]
        for way in rounds[0][0]:
            what = LABELS[way]
            mine = statistics.median(a[way] for a, _ in rounds)
            if way not in rounds[0][1]:
                yield self.row(what, "", f"{mine:.3f} ms")
                continue
            theirs = statistics.median(b[way] for _, b in rounds)
            ratio = statistics.median(a[way] / b[way] for a, b in rounds)
            yield self.row(what, TARGET, f"{ratio:.2f} ({mine:.3f} ms to {theirs:.3f} ms)")

    def alone(
        self, what: str, side: contextlib.AbstractContextManager[Side], ways: Iterable[str] = LABELS
    ) -> Iterator[Row]:
        with side as one:
            rounds = [one.measure(self.jobs) for _ in range(self.rounds)]
        for way in [way for way in ways if way in rounds[0]]:
            figure = statistics.median(costs[way] for costs in rounds)
            yield self.row(f"{LABELS[way]}, {what}", "", f"{figure:.3f} ms")

    def row(self, what: str, target: str, figure: str) -> Row:
        return f"{self.name}: {what}", target, figure


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("bin/bench queue", description=__doc__)
    parser.add_argument("brokers", nargs="*", metavar="BROKER", help=", ".join(CASES))
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--batch", action="store_true", help="fetch several jobs in one query")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.brokers) - CASES.keys():
        parser.error(f"there is no {', '.join(unknown)}: name some of {', '.join(CASES)}")
    if chosen.jobs < TOGETHER:
        parser.error(f"{TOGETHER} jobs are enqueued in one transaction: take as many at least")
    print("| | Target | CPU |\n|---|---|---|")
    for name in ["postgres"] if chosen.batch else chosen.brokers or CASES:
        with folder() as place, trial(place, name, chosen) as on:
            for row in batches(on) if chosen.batch else costs(on):
                print(f"| {' | '.join(row)} |", flush=True)
    return 0


@contextlib.contextmanager
def trial(place: Path, name: str, chosen: argparse.Namespace) -> Iterator[Trial]:
    service = ready(place, "example=false", "kubernetes=false", *CASES[name].answers)
    shutil.copy(COST / "ours.py", service / "src" / PACKAGE)
    with (service / "src" / PACKAGE / "parts.py").open("a") as lists:
        lists.write('JOBS.append("ours")\n')
    broker = name.partition("-")[0]
    with environment(service) as env:
        added = {"BROKER": broker, "PYTHONPATH": str(COST), "TOGETHER": str(TOGETHER)}
        added["SERVICE"] = PACKAGE
        yield Trial(name, broker, service, place, env | added, chosen.jobs, chosen.rounds)


def costs(on: Trial) -> Iterator[Row]:
    yield from on.compare()
    if on.broker != "postgres":
        yield from on.alone("celery", on.celery())


def batches(on: Trial) -> Iterator[Row]:
    yield from on.alone("the bare library", on.bare(), ["job"])
    for worker, what in WORKERS.items():
        for number in AT_ONCE:
            yield from on.alone(f"{what}, {number} at once", on.batch(worker, number), ["job"])
