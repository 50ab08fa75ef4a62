"""An environment on a cluster: what `kubectl kustomize deploy/k8s/overlays/ENVIRONMENT` renders.

Each release has a Secret of its own with its variables, and a ConfigMap that holds its record and
its manifests; neither can be changed. The Secret `secrets` that the manifests name becomes the
release's own, so that going back brings the former values too.
"""

import base64
import json
import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import project, smoke
from .ledger import Ledger, Record
from .project import ROOT, Failed, Refused, say

COMPONENT = "app.kubernetes.io/component"
VERSION = "app.kubernetes.io/version"
NAME = "app.kubernetes.io/name"
# Applied before the migration, which needs them; nothing of them takes traffic.
EARLY = {"ConfigMap", "Namespace", "NetworkPolicy", "Secret", "ServiceAccount"}
EVERY_SECONDS = 1
HISTORY = "history"
MIGRATION_SECONDS = 600
READY_SECONDS = 600
RECORD = "delivery/record"
ROLLED = {"DaemonSet", "Deployment", "StatefulSet"}
# Where manifests name the Secret that becomes the release's own.
USES = re.compile(
    r"((?:secretRef|secretKeyRef):\n(?: +key: .*\n)? +name: | secretName: )secrets$", re.M
)


@dataclass(frozen=True)
class Manifest:
    """One document that kustomize has rendered: its form is always the same."""

    text: str

    @property
    def kind(self) -> str:
        return _field(r"^kind: (.+)$", self.text)

    @property
    def metadata(self) -> str:
        return _field(r"^metadata:\n((?:  .*\n)+)", self.text)

    @property
    def name(self) -> str:
        return _field(r"^  name: (.+)$", self.metadata)

    @property
    def namespace(self) -> str:
        return _field(r"^  namespace: (.+)$", self.metadata)

    @property
    def component(self) -> str:
        return _field(rf"^    {COMPONENT}: (.+)$", self.metadata)

    @property
    def migrates(self) -> bool:
        return self.kind == "Job" and self.component == "release"


class Cluster(Ledger):
    """The ledger in an environment's namespace; what was released here is in its folder too."""

    def __init__(self, environment: str, kubectl: Callable[..., str]) -> None:
        super().__init__(environment)
        self.kubectl = kubectl
        self.service = project.name()

    def records(self) -> list[Record]:
        wanted = f"{RECORD}={self.service}"
        listed = json.loads(self.kubectl("get", "configmap", f"--selector={wanted}", "-ojson"))
        found = {record.id: record for record in super().records()}
        found |= {one.id: one for one in map(_record, listed["items"])}
        return sorted(found.values(), key=lambda record: record.created)

    def find(self, release: str) -> Record | None:
        found = self._get("configmap", _own(release))
        return _record(found) if found else super().find(release)

    def add(self, record: Record, given: dict[str, str]) -> None:
        super().add(record, {})  # the values are in the release's Secret
        self._create(
            "ConfigMap",
            _own(record.id),
            {"record.json": json.dumps(asdict(record))},
            labels={RECORD: self.service},
            immutable=True,
        )

    def key(self) -> bytes:
        name = f"{self.service}-delivery-key"
        if not (found := self._get("secret", name)):
            value = base64.b64encode(secrets.token_hex(32).encode()).decode()
            self._create("Secret", name, {"key": value}, immutable=True)
            found = self._get("secret", name)
        return base64.b64decode(found["data"]["key"])

    def history(self) -> list[str]:
        return [line.split()[1] for line in self._lines()]

    def ran(self, release: str) -> None:
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {release}"
        text = "\n".join([*self._lines(), line])
        made = _object("ConfigMap", f"{self.service}-{HISTORY}", {HISTORY: text})
        self.kubectl("apply", "--filename=-", given=json.dumps(made))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The pipeline lets one deploy of an environment run at a time."""
        yield

    def _lines(self) -> list[str]:
        found = self._get("configmap", f"{self.service}-{HISTORY}")
        lines: list[str] = found["data"][HISTORY].splitlines() if found else []
        return lines

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        text = self.kubectl("get", kind, name, "--ignore-not-found", "-ojson")
        found: dict[str, Any] = json.loads(text or "{}")
        return found

    def _create(self, kind: str, name: str, data: dict[str, str], **more: Any) -> None:
        self.kubectl("create", "--filename=-", given=json.dumps(_object(kind, name, data, **more)))


class Kubernetes:
    """The cluster that `kubectl` reaches from here.

    Of the environment: DELIVERY_SECONDS, the longest wait for readiness; DELIVERY_URL, where its
    users reach it; without one a pod is asked.
    """

    def __init__(self, environment: str) -> None:
        self.environment = environment
        self.dry_run = False
        self.overlay = ROOT / "deploy/k8s/overlays" / environment
        self.rendered_overlay = _kustomize(self.overlay)
        namespaces = {one.namespace for one in _manifests(self.rendered_overlay)} - {""}
        self.namespace = namespaces.pop() if len(namespaces) == 1 else "default"
        self.ledger: Ledger = Cluster(environment, self._kubectl)

    def settings(self) -> dict[str, str]:
        """What the Secret `secrets` of the namespace holds."""
        text = self._kubectl("get", "secret", "secrets", "--ignore-not-found", "-ojson")
        data = json.loads(text or "{}").get("data", {})
        return {name: base64.b64decode(value).decode() for name, value in data.items()}

    def fixed(self) -> set[str]:
        maps = [one.text for one in _manifests(self.rendered_overlay) if one.kind == "ConfigMap"]
        return {name for text in maps for name in re.findall(r"^  ([A-Z][A-Z0-9_]*): ", text, re.M)}

    def key(self) -> bytes:
        namespaces = [one for one in _manifests(self.rendered_overlay) if one.kind == "Namespace"]
        if namespaces:
            self._kubectl("apply", "--filename=-", given=_joined(namespaces))
        return self.ledger.key()

    def manifest(self, given: dict[str, str]) -> str:
        return self.rendered_overlay

    def rendered(self, release: str, image: str, given: dict[str, str]) -> str:
        """The manifests of this release, with its own Secret in place of `secrets`."""
        text, named = USES.subn(rf"\g<1>{_own(release)}", self._build(release, image))
        used = {
            each
            for one in _manifests(text)
            for each in re.findall(r"^ +(?:- )?image: (.+)$", one.text, re.M)
            if one.component
        }
        if not named or used != {image}:
            raise Refused(
                f"The manifests run {', '.join(sorted(used)) or 'nothing'} with {named} references "
                f"to the Secret `secrets`: let each process run {project.image()} with it."
            )
        return text

    def keep(self, record: Record, given: dict[str, str]) -> None:
        values = {**given, "RELEASE_ID": record.id}
        own = _object("Secret", _own(record.id), values, field="stringData", immutable=True)
        self._kubectl("apply", "--filename=-", given=json.dumps(own))
        self.ledger.add(record, given)

    def migrate(self, record: Record) -> None:
        made = _manifests(record.manifest)
        self._apply([one for one in made if one.kind in EARLY])
        for job in [one for one in made if one.migrates]:
            self._show("delete", "job", job.name, "--ignore-not-found")
            self._apply([job])
            self._ended(job.name)

    def start(self, record: Record) -> None:
        self._roll(record)
        if not any(one.component == "web" for one in _manifests(record.manifest)):
            return
        if self.dry_run:
            say(f"$ bin/smoke {os.environ.get('DELIVERY_URL') or 'a web pod'} {record.id}")
        elif url := os.environ.get("DELIVERY_URL"):
            say(smoke.smoke(url, record.id))
        else:
            with self._forwarded() as address:
                say(smoke.smoke(address, record.id))

    def back(self, record: Record, former: Record | None) -> None:
        if former and former.id != record.id:
            self._roll(former)

    def retire(self, record: Record) -> None:
        """Delete the workloads that this release no longer has."""
        selector = f"--selector={NAME}={project.name()}"
        listed = self._kubectl("get", "deployment,cronjob", selector, "-ojson")
        there = {(one["kind"], one["metadata"]["name"]) for one in json.loads(listed)["items"]}
        kept = {(one.kind, one.name) for one in _manifests(record.manifest)}
        for kind, name in sorted(there - kept):
            self._show("delete", kind.lower(), name)

    def _roll(self, record: Record) -> None:
        made = _manifests(record.manifest)
        self._apply([one for one in made if one.kind not in EARLY and not one.migrates])
        deadline = time.monotonic() + float(os.environ.get("DELIVERY_SECONDS") or READY_SECONDS)
        for one in made:
            if one.kind in ROLLED:
                left = max(1, round(deadline - time.monotonic()))
                what = f"{one.kind.lower()}/{one.name}"
                self._show("rollout", "status", what, f"--timeout={left}s")

    def _ended(self, job: str) -> None:
        """Wait until the Job is complete or has failed; `kubectl wait` knows one of them alone."""
        if self.dry_run:
            say(f"wait until job/{job} is complete, or has failed")
            return
        deadline = time.monotonic() + MIGRATION_SECONDS
        while time.monotonic() < deadline:
            status = json.loads(self._kubectl("get", "job", job, "-ojson")).get("status", {})
            over = {
                one["type"] for one in status.get("conditions", []) if one["status"] == "True"
            } & {"Complete", "Failed"}
            if over:
                say(self._kubectl("logs", f"job/{job}", "--tail=50"))
                if "Failed" in over:
                    raise Failed(f"job/{job} failed: its log stands above")
                return
            time.sleep(EVERY_SECONDS)
        raise Failed(f"job/{job} did not end within {MIGRATION_SECONDS} s")

    @contextmanager
    def _forwarded(self) -> Iterator[str]:
        """The address of a web pod that is to stay, as long as the block runs."""
        selector = f"--selector={NAME}={project.name()},{COMPONENT}=web"
        pods = json.loads(self._kubectl("get", "pod", selector, "-ojson"))["items"]
        staying = [one for one in pods if "deletionTimestamp" not in one["metadata"]]
        if not staying:
            raise Failed("there is no web pod to ask")
        pod = staying[0]
        port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
        words = ("port-forward", f"pod/{pod['metadata']['name']}", f":{port}")
        command = ["kubectl", "--namespace", self.namespace, *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
            try:
                assert forward.stdout
                said = re.search(r"127\.0\.0\.1:\d+", forward.stdout.readline())
                if not said:
                    raise Failed("kubectl port-forward gave no address")
                yield f"http://{said[0]}"
            finally:
                forward.terminate()

    def _build(self, release: str, image: str) -> str:
        """The overlay with the image and the id of this release."""
        name, _, digest = image.rpartition("@")
        if not name:
            raise Refused(f"{image} is on one engine alone, no cluster can pull it: build --push.")
        rename = {
            "op": "replace",
            "path": "/metadata/name",
            # A Job cannot be changed: each release has one of its own.
            "value": release.replace(project.name(), f"{project.name()}-release", 1),
        }
        job = {"kind": "Job", "labelSelector": f"{COMPONENT}=release"}
        options = {"allowNameChange": True}
        with tempfile.TemporaryDirectory() as folder:
            own = {
                "resources": [os.path.relpath(self.overlay, Path(folder).resolve())],
                "images": [{"name": project.image(), "newName": name, "digest": digest}],
                "commonAnnotations": {"delivery/release": release},
                "labels": [{"includeTemplates": True, "pairs": {VERSION: release}}],
                "patches": [{"target": job, "options": options, "patch": json.dumps([rename])}],
            }
            (Path(folder) / "kustomization.yaml").write_text(json.dumps(own))
            return _kustomize(Path(folder))

    def _kubectl(self, *words: str, given: str | None = None) -> str:
        return project.output("kubectl", "--namespace", self.namespace, *words, given=given)

    def _apply(self, made: list[Manifest]) -> None:
        if made:
            self._show("apply", "--filename=-", given=_joined(made))

    def _show(self, *words: str, given: str | None = None) -> None:
        if self.dry_run and given:
            say(given)
        command = ("kubectl", "--namespace", self.namespace, *words)
        project.show(*command, dry_run=self.dry_run, given=given)


def _kustomize(folder: Path) -> str:
    return project.output("kubectl", "kustomize", str(folder))


def _manifests(text: str) -> list[Manifest]:
    return [Manifest(f"{one.strip()}\n") for one in re.split(r"^---$", text, flags=re.M)]


def _joined(made: Iterator[Manifest] | list[Manifest]) -> str:
    return "---\n".join(one.text for one in made)


def _field(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.M)
    return found[1].strip("\"'") if found else ""


def _record(found: dict[str, Any]) -> Record:
    return Record(**json.loads(found["data"]["record.json"]))


def _own(release: str) -> str:
    """The name of what a release has to itself."""
    return f"release-{release}"


def _object(
    kind: str,
    name: str,
    data: dict[str, str],
    *,
    field: str = "data",
    labels: dict[str, str] | None = None,
    immutable: bool = False,
) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels or {}}
    made = {"apiVersion": "v1", "kind": kind, "metadata": metadata, field: data}
    return made | ({"immutable": True} if immutable else {})
