"""The kit on a service that the template did not make: what docs/conformance.md says it takes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from render import ROOT

FOREIGN = ROOT / "tests" / "foreign"
TEMPLATE = ROOT / "template"
# All that is copied into it: the kit, its pipe, and what starts backing services.
KIT = ("tests/__init__.py", "tests/pipe.py", "tests/conformance")
SERVICES = ("dev/__init__.py", "dev/__main__.py", "dev/server.py", "dev/services.py")
VALKEY = "dev/redis.py"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    shutil.copytree(FOREIGN, folder)
    for name in (*KIT, *SERVICES, VALKEY):
        (folder / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (TEMPLATE / name).is_dir() else shutil.copy
        copy(TEMPLATE / name, folder / name)
    return folder


def judged(folder: Path, service: Path, *words: str) -> dict[str, str]:
    """Verdicts by check."""
    python = service / ".venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if "_URL" not in name}
    done = subprocess.run(
        [python, "-m", "tests.conformance", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    report = folder / "conformance" / "conformance.json"
    assert report.exists(), done.stdout
    found = {one["id"]: one["verdict"] for one in json.loads(report.read_text())["checks"]}
    assert (done.returncode == 0) == ({"held", "does not apply"} >= set(found.values()))
    return found


# The checks of processes; those of files look for a lock, an image and a pipeline.
LIVE = ("I-1", "II-4", "III", "IV", "V-1", "VI", "VII-1", "VII-3", "IX", "XI", "XII")


def test_it_holds_what_it_claims(foreign: Path, service: Path) -> None:
    verdicts = judged(foreign, service, "--only", *LIVE)

    assert [id for id, verdict in verdicts.items() if verdict == "broken"] == []
    assert sum(verdict == "held" for verdict in verdicts.values()) >= 20


@pytest.mark.parametrize(
    ("factor", "anchor", "replacement"),
    [
        ("VI", 'redis("LRANGE", NOTES, "0", "-1")', "MEMORY"),
        ("IX", "server.stopping.set()\n        threading", "os._exit(1)\n        threading"),
        ("XI", 'log("INFO", "listening")', 'print("listening")'),
    ],
)
def test_it_fails_where_it_breaks_a_factor(
    foreign: Path, service: Path, factor: str, anchor: str, replacement: str
) -> None:
    source = foreign / "notes.py"
    text = source.read_text()
    assert text.count(anchor) == 1
    text = text.replace(anchor, replacement)
    if factor == "VI":
        text = text.replace('redis("RPUSH", NOTES, body)', "MEMORY.append(body)")
        text = text.replace('NOTES = "notes"\n', 'NOTES = "notes"\nMEMORY: list[str] = []\n')
    source.write_text(text)

    assert "broken" in judged(foreign, service, "--only", factor).values()
