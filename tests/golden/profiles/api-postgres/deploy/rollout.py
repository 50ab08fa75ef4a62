"""Run (factor V): a release takes over from the one before it, or leaves things as they were."""

import time
from contextlib import suppress

from . import ledger, targets
from .ledger import Ledger, Record
from .project import Failed, Refused, say
from .targets import Target


def deploy(release: str, *, dry_run: bool = False) -> None:
    """Migrate, start, wait, ask; raises Failed with the former release serving."""
    target, record = _found(release)
    target.dry_run = dry_run
    with target.ledger.locked():
        try:
            target.migrate(record)
        except (Failed, KeyboardInterrupt) as error:
            former = (target.ledger.history() or ["nothing"])[-1]
            raise Failed(f"The migration failed, so {former} goes on. {error}") from None
        _replace(target, record)
    say(f"{record.environment} runs {record.id}." if not dry_run else "Nothing was changed.")


def rollback(environment: str, release: str | None = None, *, dry_run: bool = False) -> str:
    """Run an earlier release of this environment again; says how long it took.

    Migrations only go forward: each leaves the release before it working.
    """
    began = time.monotonic()
    target = targets.of(environment)
    target.dry_run = dry_run
    history = target.ledger.history()
    earlier = [one for one in history if one != history[-1]]
    wanted = release or (earlier[-1] if earlier else "")
    if not wanted:
        raise Refused(f"{environment} has run no other release to go back to.")
    record = target.ledger.find(wanted)
    if record is None or wanted not in history:
        raise Refused(f"{wanted} has not run in {environment}: bin/rollback {environment} --list.")
    with target.ledger.locked():
        _replace(target, record)
    if dry_run:
        return "Nothing was changed."
    return f"{environment} runs {record.id} again, after {time.monotonic() - began:.1f} s"


def listed(environment: str) -> list[str]:
    """The releases that ran, each once, the latest first."""
    target = targets.of(environment)
    history = target.ledger.history()
    records = {record.id: record for record in target.ledger.records()}
    return [
        f"{one}  {records[one].created}  {records[one].image}{'  current' * (one == history[-1])}"
        for one in dict.fromkeys(reversed(history))
        if one in records
    ]


def _replace(target: Target, record: Record) -> None:
    history = target.ledger.history()
    former = target.ledger.find(history[-1]) if history else None
    try:
        target.start(record)
    except (Failed, KeyboardInterrupt) as error:
        say(f"{record.id} does not come up: going back. {error}")
        target.back(record, former)
        stays = f"{former.id} goes on" if former else "nothing is there to go back to"
        raise Failed(f"{record.id} did not come up, so {stays}. {error}") from None
    if not target.dry_run:
        target.ledger.ran(record.id)
    target.retire(record)


def _found(release: str) -> tuple[Target, Record]:
    """A record of this machine, else of a cluster that can be reached."""
    for environment in ledger.environments():
        if record := Ledger(environment).find(release):
            return targets.of(environment), record
    for environment in targets.environments():
        with suppress(Failed):
            target = targets.of(environment)
            if record := target.ledger.find(release):
                return target, record
    raise Refused(f"There is no release {release}: bin/release makes one.")
