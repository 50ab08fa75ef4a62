"""S3 object storage from its wheel: rclone, which serves the folders in a folder as buckets."""

import json
import os
import secrets
import subprocess
import sysconfig
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .server import free_port, running

VARIABLE = "S3_BUCKET"
NOWHERE = {VARIABLE: "nowhere", "S3_ENDPOINT": "http://127.0.0.1:9"}
SERVER = ("S3_ENDPOINT", "S3_REGION", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")

RCLONE = str(Path(sysconfig.get_path("scripts")) / "rclone")


@contextmanager
def run(folder: Path) -> Iterator[dict[str, str]]:
    """A server on the data in this folder, or the one that already runs on it."""
    known = folder / "variables.json"
    if found := _running(known):
        yield found
        return
    variables = {
        VARIABLE: "development",
        "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "S3_REGION": "us-east-1",
        "S3_ACCESS_KEY_ID": "development",
        "S3_SECRET_ACCESS_KEY": secrets.token_hex(),  # no other server answers to it
    }
    (folder / "data" / variables[VARIABLE]).mkdir(parents=True, exist_ok=True)
    address = variables["S3_ENDPOINT"].removeprefix("http://")
    pair = f'"{variables["S3_ACCESS_KEY_ID"]},{variables["S3_SECRET_ACCESS_KEY"]}"'
    with running(
        [RCLONE, "serve", "s3", str(folder / "data"), "--addr", address],
        folder / "log",
        lambda: _answers(variables),
        environment={"RCLONE_AUTH_KEY": pair, "RCLONE_CONFIG": ""},
    ):
        known.touch(0o600)
        known.write_text(json.dumps(variables))
        yield variables


@contextmanager
def fresh(variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """An empty bucket on this server, removed at the end with what is in it."""
    own = {VARIABLE: f"test-{uuid.uuid4()}", **{name: variables.get(name, "") for name in SERVER}}
    _rclone(own, "mkdir")
    try:
        yield own
    finally:
        _rclone(own, "purge")


def _running(known: Path) -> dict[str, str] | None:
    """The variables of the server that has this folder open, if one does."""
    try:
        variables: dict[str, str] = json.loads(known.read_text())
    except (OSError, ValueError):
        return None
    return variables if _answers(variables) else None


def _answers(variables: Mapping[str, str]) -> bool:
    try:
        _rclone(variables, "lsf")
    except OSError:
        return False
    return True


def _rclone(variables: Mapping[str, str], command: str) -> None:
    """Do this to the bucket: rclone is a client too, of any server."""
    region = variables["S3_REGION"] or "us-east-1"
    aws = not variables["S3_ENDPOINT"]
    settings = {name: variables[name] for name in SERVER} | {
        "CONFIG": "",
        "S3_ENV_AUTH": "true",  # the machine's role, if there is no key pair
        "S3_LOCATION_CONSTRAINT": region if aws and region != "us-east-1" else "",
        "S3_PROVIDER": "AWS" if aws else "Other",
        "S3_REGION": region,
    }
    patience = ["--contimeout=5s", "--timeout=10s", "--low-level-retries=1"]
    done = subprocess.run(
        [RCLONE, command, f":s3:{variables[VARIABLE]}", *patience],
        capture_output=True,
        env=os.environ | {f"RCLONE_{name}": value for name, value in settings.items()},
        text=True,
    )
    if done.returncode:
        raise OSError(f"rclone {command} {variables[VARIABLE]}: {done.stderr.splitlines()[-1:]}")
