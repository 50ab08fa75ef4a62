"""What was released and what ran, outside of the repository: added to, never changed."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import project
from .project import ROOT, Refused


@dataclass(frozen=True)
class Record:
    """A release.

    settings: the names of its variables; their values are kept apart.
    config: the keyed hash of names, values and manifest.
    manifest: what is handed to the platform, without the values of variables.
    """

    id: str
    environment: str
    image: str
    revision: str
    settings: list[str]
    config: str
    manifest: str
    created: str

    def content(self) -> dict[str, Any]:
        """What makes it this release: all but the time."""
        return {name: value for name, value in asdict(self).items() if name != "created"}


def home() -> Path:
    """Where environments are kept on this machine."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    chosen = Path(os.environ.get("DELIVERY_HOME") or Path(state) / project.name())
    if chosen.resolve().is_relative_to(ROOT.resolve()):
        raise Refused(f"DELIVERY_HOME is {chosen}: values are kept outside of the repository.")
    return chosen


def environments() -> list[str]:
    return sorted(path.name for path in home().glob("*") if path.is_dir())


class Ledger:
    """One environment's folder: `records/`, `config/` and `key` for the owner's eyes, `history`."""

    def __init__(self, environment: str) -> None:
        self.folder = home() / environment

    def records(self) -> list[Record]:
        files = sorted((self.folder / "records").glob("*.json"))
        found = [Record(**json.loads(file.read_text())) for file in files]
        return sorted(found, key=lambda record: record.created)

    def find(self, release: str) -> Record | None:
        return next((record for record in self.records() if record.id == release), None)

    def add(self, record: Record, given: dict[str, str]) -> None:
        """Keep this record, and the values of its variables where only this user reads them."""
        _write(self.folder / "config" / f"{record.id}.json", json.dumps(given), 0o600)
        text = json.dumps(asdict(record), indent=2) + "\n"
        _write(self.folder / "records" / f"{record.id}.json", text, 0o444)

    def given(self, record: Record) -> dict[str, str]:
        """The values of a release's variables."""
        try:
            found: dict[str, str] = json.loads(
                (self.folder / "config" / f"{record.id}.json").read_text()
            )
        except OSError:
            raise Refused(
                f"The configuration of {record.id} is not on this machine: deploy where it was "
                "released, or release it again here."
            ) from None
        return found

    def key(self) -> bytes:
        """The secret of this environment's hashes, made at the first release."""
        file = self.folder / "key"
        if not file.exists():
            _write(file, secrets.token_hex(32), 0o600)
        return file.read_text().encode()

    def history(self) -> list[str]:
        """The releases that ran here, each with its processes ready, the current one last."""
        file = self.folder / "history"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.split()[1] for line in lines]

    def ran(self, release: str) -> None:
        with (self.folder / "history").open("a") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {release}\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One deploy of this environment at a time."""
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refused(
                    f"{self.folder.name} is being deployed: wait until that has ended."
                ) from None
            yield


def _write(file: Path, text: str, mode: int) -> None:
    """A whole file or none; what is there already is left as it is."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(descriptor)
    try:
        os.link(part, file)
    except FileExistsError:
        pass
    finally:
        part.unlink()
