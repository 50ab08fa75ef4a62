"""Release (factor V): a build joined with a configuration, under an id that stays.

The id ends in a keyed hash of the configuration. Without the key, which lies beside the
configuration and is as secret, nobody can try values against an id.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import build, project, targets
from .ledger import Ledger, Record
from .project import REQUIRED, ROOT, Refused, say

IMAGE = re.compile(r"(?:[a-z0-9][\w.:/-]*@)?sha256:[0-9a-f]{64}")
ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,30}")
# What a deploy sets by itself, whatever the configuration says.
BY_THE_DEPLOY = {"HEARTBEAT_FILE", "PORT", "RELEASE_ID", "REVISION"}
PROMOTED_FROM = {"production": "staging"}


def make(
    environment: str, image: str, config: Path | None, *, without_staging: bool = False
) -> Record:
    """The release of this build with this configuration, made once and found again later."""
    if not ENVIRONMENT.fullmatch(environment):
        raise Refused(f"{environment!r} is no environment: use a name such as staging.")
    if not IMAGE.fullmatch(image):
        why = f"{image} may mean another image tomorrow" if image else "No image is named"
        raise Refused(f"{why}: release IMAGE@sha256:DIGEST, as bin/build --push prints it.")
    target = targets.of(environment)
    before = PROMOTED_FROM.get(environment)
    if before and not without_staging and not _released(before, image):
        raise Refused(
            f"{environment} takes what {before} has had, and {before} has no release of "
            f"{image}: release it there first."
        )
    given = _checked(_read(config) if config else target.settings(), config, target.fixed())
    revision = build.revision(image)
    manifest = target.manifest(given)
    content = json.dumps([given, manifest], sort_keys=True)
    digest = hmac.new(target.key(), content.encode(), hashlib.sha256).hexdigest()
    release = f"{project.name()}-{revision[:7]}-{digest[:6]}"
    record = Record(
        id=release,
        environment=environment,
        image=image,
        revision=revision,
        settings=sorted(given),
        config=digest,
        manifest=target.rendered(release, image, given),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    known = target.ledger.find(record.id)
    if known is None:
        target.keep(record, given)
    elif known.content() != record.content():
        raise Refused(
            f"{record.id} is there already and is another release, of {known.image}: "
            "a record never changes, so commit and build anew."
        )
    return known or record


def _released(environment: str, image: str) -> bool:
    digest = image.rpartition("@")[2]

    def among(records: list[Record]) -> bool:
        return any(record.image.rpartition("@")[2] == digest for record in records)

    # The folder first: a pipeline may hand its records on, and not reach the other cluster.
    here = Ledger(environment).records()
    return among(here) or among(targets.of(environment).ledger.records())


def _read(file: Path) -> dict[str, str]:
    """The variables of a dotenv file: NAME=value lines, quotes around a value taken away."""
    if file.resolve().is_relative_to(ROOT.resolve()):
        raise Refused(f"{file} lies in the repository: keep configuration outside of it.")
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}.") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise Refused(f"{file}, line {number} is not NAME=value.")
        if name in found:
            raise Refused(f"{file} sets {name} twice: keep one.")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[name] = value[1:-1] if quoted else value
    return found


def _checked(given: Mapping[str, str], config: Path | None, fixed: set[str]) -> dict[str, str]:
    """What the service reads of this; refused if a name is unknown or one is missing."""
    where = str(config) if config else "The environment"
    read: dict[str, Any] = project.settings()
    if unknown := sorted(given.keys() - read.keys()):
        raise Refused(f"{where} sets what nothing reads: {', '.join(unknown)}. Take it out.")
    kept = {name: value for name, value in given.items() if value and name not in BY_THE_DEPLOY}
    required = {name for name, default in read.items() if default is REQUIRED}
    if missing := sorted(required - kept.keys() - fixed):
        raise Refused(f"{where} does not set {', '.join(missing)}: the service needs it.")
    if ours := sorted(given.keys() & BY_THE_DEPLOY):
        say(f"The deploy itself sets {', '.join(ours)}: what {where} says of it does not count.")
    return kept
