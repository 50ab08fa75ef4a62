"""kubectl for tests: a cluster that keeps what it is given in a folder, and on which all goes well.

`python cluster.py FOLDER KUBECTL WORDS...`: what needs no cluster is left to this real kubectl.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def main(folder: str, kubectl: str, *words: str) -> int:
    if words[0] == "kustomize":
        return subprocess.run([kubectl, *words]).returncode
    _, namespace, verb, *rest = words
    place = Path(folder) / namespace
    if verb in ("apply", "create"):
        for made in yaml.safe_load_all(sys.stdin):
            file = place / made["kind"].lower() / f"{made['metadata']['name']}.json"
            if verb == "create" and file.exists():
                raise SystemExit(f"{file.stem} exists already")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(made))
    elif verb == "get":
        kind, name = rest[:2]
        if name.startswith("--selector="):
            label, _, value = name.removeprefix("--selector=").partition("=")
            found = [json.loads(one.read_text()) for one in place.glob(f"{kind}/*.json")]
            items = [one for one in found if labels(one).get(label) == value]
            sys.stdout.write(json.dumps({"items": items}))
        elif (file := place / kind / f"{name}.json").exists():
            ended = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
            sys.stdout.write(json.dumps(json.loads(file.read_text()) | ended))
    return 0


def labels(made: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = made["metadata"].get("labels") or {}
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
