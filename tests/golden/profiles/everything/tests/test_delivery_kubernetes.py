"""The verbs of bin/ on a cluster: what kubectl is told, and in which order."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.delivering import DIGEST, IMAGE, SECRET, Checkout, make


def document(kind: str, name: str, component: str = "", spec: str = "") -> str:
    labels = f"  labels:\n    app.kubernetes.io/component: {component}\n" if component else ""
    return f"kind: {kind}\nmetadata:\n{labels}  name: {name}\n  namespace: shop\n{spec}"


def workload(kind: str, component: str, image: str) -> str:
    secret = "        envFrom:\n        - secretRef:\n            name: secrets\n"
    spec = f"spec:\n  template:\n    spec:\n      containers:\n      - image: {image}\n{secret}"
    return document(kind, f"shop-{component}", component, spec)


def rendered(image: str) -> str:
    """What kustomize makes of the overlay."""
    return "---\n".join(
        [
            document("Namespace", "shop"),
            document("ConfigMap", "shop-config-1", spec="data:\n  LOG_LEVEL: INFO\n"),
            document("Service", "shop-web", "web"),
            workload("Deployment", "web", image),
            workload("Deployment", "worker", image),
            workload("Job", "release", image),
        ]
    )


def encoded(**data: str) -> str:
    values = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    return json.dumps({"data": values})


def job(condition: str) -> str:
    return json.dumps({"status": {"conditions": [{"type": condition, "status": "True"}]}})


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = make(tmp_path)
    overlay = made.root / "deploy/k8s/overlays/staging"
    overlay.mkdir(parents=True)
    (overlay / "kustomization.yaml").write_text("resources: [../../base]\n")
    made.answers += [
        ("*kustomize *overlays/staging", 0, rendered("registry.example/shop")),
        ("*kustomize *", 0, rendered(IMAGE)),
        ("*get secret shop-delivery-key *", 0, encoded(key="0123")),
        ("*get job *", 0, job("Complete")),
        ("*get deployment,cronjob *", 0, '{"items": []}'),
        ("*get configmap --selector*", 0, '{"items": []}'),
        ("*port-forward*", 1, ""),
    ]
    # Nobody listens there: what users reach is not asked here unless a test says so.
    made.environment = {"DELIVERY_SECONDS": "1"}
    return made


@pytest.fixture
def asked(checkout: Checkout) -> None:
    """A service without a web process is not asked."""
    checkout.answers = [
        (pattern, code, text.replace(": web\n", ": api\n"))
        for pattern, code, text in checkout.answers
    ]


def ran(checkout: Checkout, *releases: str) -> None:
    """Let the cluster remember that these ran."""
    lines = "\n".join(f"2026-01-01T00:00:00 {release}" for release in releases)
    history = json.dumps({"data": {"history": lines}})
    checkout.answers.insert(0, ("*get configmap shop-history *", 0, history))


def steps(checkout: Checkout) -> list[tuple[str, list[str]]]:
    """What kubectl was told that is no question, with the kinds that it was given."""
    found = []
    for call in checkout.calls():
        words = call["words"].removeprefix("--namespace shop ")
        if re.match("apply|create|delete|rollout|logs", words):
            kinds = re.findall(r'(?:^kind: |"kind": ")(\w+)', call["given"], re.M)
            found.append((words.removesuffix(" --filename=-"), kinds))
    return found


def forget(checkout: Checkout) -> None:
    (checkout.programs / "calls").unlink()


def test_a_release_keeps_its_record_and_its_values_on_the_cluster(checkout: Checkout) -> None:
    release = checkout.release()
    made = {call["words"]: call["given"] for call in checkout.calls()}
    kept: dict[str, Any] = json.loads(made["--namespace shop create --filename=-"])
    own: dict[str, Any] = json.loads(made["--namespace shop apply --filename=-"])
    name = f"release-{release}"
    assert [one["metadata"]["name"] for one in (kept, own)] == [name, name]
    assert [one["immutable"] for one in (kept, own)] == [True, True]
    assert own["stringData"] == {"DATABASE_URL": SECRET, "RELEASE_ID": release}
    record = json.loads(kept["data"]["record.json"])
    assert record == checkout.record(release)
    assert record["manifest"].count(f"name: {name}\n") == record["manifest"].count(IMAGE) == 3
    assert steps(checkout)[:2] == [("apply", ["Namespace"]), ("apply", ["Secret"])]
    assert not [call for call in checkout.calls() if SECRET in call["words"]]


def test_a_release_is_known_by_its_record_on_the_cluster(checkout: Checkout) -> None:
    release = checkout.release()
    record = {"data": {"record.json": json.dumps(checkout.record(release))}}
    checkout.environment["DELIVERY_HOME"] = str(checkout.home / "another")
    checkout.answers.insert(0, (f"*get configmap release-{release} *", 0, json.dumps(record)))
    assert checkout.release() == release
    assert not list((checkout.home / "another").glob("**/*.json"))
    assert "Nothing was changed" in checkout.run("deploy", release, "--dry-run").stderr


def test_the_key_is_made_once_and_stays_on_the_cluster(checkout: Checkout) -> None:
    first = checkout.release()
    checkout.answers.insert(0, ("*get secret shop-delivery-key *", 0, encoded(key="4567")))
    assert checkout.release() != first


def test_without_a_file_the_values_are_those_of_the_cluster(checkout: Checkout) -> None:
    given = checkout.release()
    assert "does not set DATABASE_URL" in checkout.refusal("release", "staging", IMAGE)
    checkout.answers.insert(0, ("*get secret secrets *", 0, encoded(DATABASE_URL=SECRET)))
    assert checkout.answer("release", "staging", IMAGE) == given


def test_an_image_of_one_engine_and_an_image_that_nobody_set_are_refused(
    checkout: Checkout,
) -> None:
    words = ("--config", checkout.config())
    assert "build --push" in checkout.refusal("release", "staging", DIGEST, *words)
    of_the_release = checkout.answers.index(("*kustomize *", 0, rendered(IMAGE)))
    checkout.answers[of_the_release] = ("*kustomize *", 0, rendered("elsewhere.example/shop"))
    said = checkout.refusal("release", "staging", IMAGE, *words)
    assert "run elsewhere.example/shop with 3 references" in said
    unnamed = rendered(IMAGE).replace("name: secrets", "name: others")
    checkout.answers[of_the_release] = ("*kustomize *", 0, unnamed)
    assert "with 0 references" in checkout.refusal("release", "staging", IMAGE, *words)


@pytest.mark.usefixtures("asked")
def test_the_migration_has_ended_before_anything_that_takes_traffic(checkout: Checkout) -> None:
    release = checkout.release()
    forget(checkout)
    checkout.answer("deploy", release)
    assert steps(checkout) == [
        ("apply", ["Namespace", "ConfigMap"]),
        ("delete job shop-release --ignore-not-found", []),
        ("apply", ["Job"]),
        ("logs job/shop-release --tail=50", []),
        ("apply", ["Service", "Deployment", "Deployment"]),
        ("rollout status deployment/shop-web --timeout=1s", []),
        ("rollout status deployment/shop-worker --timeout=1s", []),
        ("apply", ["ConfigMap"]),
    ]


@pytest.mark.usefixtures("asked")
def test_a_job_that_failed_stops_the_deploy(checkout: Checkout) -> None:
    first, second = checkout.release(), checkout.release(LOG_LEVEL="DEBUG")
    ran(checkout, first)
    checkout.answers.insert(0, ("*get job *", 0, job("Failed")))
    checkout.answers.insert(0, ("*logs *", 0, "no such column"))
    forget(checkout)
    done = checkout.run("deploy", second)
    assert (done.returncode, "no such column" in done.stderr) == (1, True)
    assert f"so {first} goes on" in done.stderr.splitlines()[-1]
    assert [kinds for _, kinds in steps(checkout) if "Deployment" in kinds] == []


@pytest.mark.parametrize("fault", ["rollout", "smoke"])
def test_a_release_that_does_not_come_up_makes_way_for_the_former_one(
    checkout: Checkout, fault: str
) -> None:
    first, second = checkout.release(), checkout.release(LOG_LEVEL="DEBUG")
    ran(checkout, first)
    if fault == "rollout":
        checkout.answers.insert(0, ("*rollout status deployment/shop-web*", 1, ""))
    else:
        checkout.environment["DELIVERY_URL"] = "http://127.0.0.1:9"
    forget(checkout)
    checkout.refusal("deploy", second)
    applied = [kinds for words, kinds in steps(checkout) if words == "apply"]
    assert applied[-2:] == [["Service", "Deployment", "Deployment"]] * 2
    assert [words for words, _ in steps(checkout)][-1].startswith("rollout status")


@pytest.mark.usefixtures("asked")
def test_a_rollback_applies_the_former_manifests_and_runs_no_job(checkout: Checkout) -> None:
    first, second = checkout.release(), checkout.release(LOG_LEVEL="DEBUG")
    ran(checkout, first, second)
    forget(checkout)
    assert first in checkout.answer("rollback", "staging")
    assert not [kinds for _, kinds in steps(checkout) if "Job" in kinds]


@pytest.mark.usefixtures("asked")
def test_a_workload_that_the_release_no_longer_has_is_deleted(checkout: Checkout) -> None:
    release = checkout.release()
    names = ("shop-web", "shop-relay")
    items = [{"kind": "Deployment", "metadata": {"name": name}} for name in names]
    checkout.answers.insert(0, ("*get deployment,cronjob *", 0, json.dumps({"items": items})))
    forget(checkout)
    checkout.answer("deploy", release)
    assert steps(checkout)[-1] == ("delete deployment shop-relay", [])


def test_a_dry_run_prints_the_manifests_and_applies_none(checkout: Checkout) -> None:
    release = checkout.release()
    forget(checkout)
    done = checkout.run("deploy", release, "--dry-run")
    assert done.returncode == 0
    assert "kind: Deployment" in done.stderr
    assert steps(checkout) == []
