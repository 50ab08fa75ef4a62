"""The image, the manifests and the pipelines: each has its checks, each check is shown faults."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cases
import manifests
import pytest
import yaml
from conftest import tool
from render import Generate

BASE = "deploy/k8s/base"
OVERLAYS = "deploy/k8s/overlays"
COMPONENTS = "deploy/k8s/components"
FLUX = "deploy/k8s/flux.yaml"
ENVIRONMENTS = ["staging", "production"]
WORKFLOWS = ".github/workflows"
GITHUB, DELIVER, ROLLBACK = (f"{WORKFLOWS}/{name}.yml" for name in ("ci", "deliver", "rollback"))
GITLAB = ".gitlab-ci.yml"
# What each job of a pipeline runs, and which jobs have ended well before.
COMMANDS = {
    "check": ["bin/setup", "bin/ci", "bin/conformance"],
    "build": ["bin/build"],
    "release-staging": ["bin/release staging"],
    "run-staging": ["bin/deploy"],
    "release-production": ["bin/release production"],
    "run-production": ["bin/deploy"],
    "rollback": ["bin/rollback"],
}
BEFORE = {
    "build": {"check"},
    "release-staging": {"build", "check"},
    "run-staging": {"release-staging"},
    "release-production": {"build", "run-staging"},
    "run-production": {"release-production"},
}
ONE_OFF_BY_HAND = {"console", "deadletters"}
REQUIRED = object()
# What a process is given everywhere, on a developer's engine too.
SAME = (
    *("cap_drop", "command", "healthcheck", "read_only", "security_opt", "tmpfs", "user"),
    *("privileged", "network_mode", "volumes"),
)


def sets(**wanted: object) -> pytest.MarkDecorator:
    """The sets of the pairwise cover that have these answers."""
    found = [answers for answers in cases.pairwise() if wanted.items() <= answers.items()]
    # One process renders a set, once, for all its tests.
    groups = [(one, cases.name(one)) for one in found]
    marked = [pytest.param(one, id=it, marks=pytest.mark.xdist_group(it)) for one, it in groups]
    return pytest.mark.parametrize("answers", marked)


# ---- checks: what is wrong in a generated repository


def dockerfile(root: Path) -> str:
    return said("hadolint", "--no-color", "Dockerfile", cwd=root)


def kubernetes_schema(root: Path) -> str:
    rendered = [built(root, BASE), *(built(root, f"{OVERLAYS}/{name}") for name in ENVIRONMENTS)]
    rendered += with_components(root).values()
    # What comes from outside Kubernetes has no schema: manifests.SHAPES stands in for it.
    distinct = {
        json.dumps(made): made
        for objects in rendered
        for made in objects
        if made["kind"] not in manifests.SHAPES
    }
    objects = yaml.safe_dump_all(distinct.values())
    return said("kubernetes-validate", "--strict", "--quiet", "/dev/stdin", cwd=root, given=objects)


def kubernetes_policy(root: Path) -> str:
    return policy(root, built(root, BASE))


def overlays(root: Path) -> str:
    """The policy holds in each environment, and they differ in counts and references only."""
    staging, production = (built(root, f"{OVERLAYS}/{name}") for name in ENVIRONMENTS)
    differ = manifests.differences(staging, production)
    return "\n".join([policy(root, staging), policy(root, production), *differ]).strip()


def components(root: Path) -> str:
    """Each component, taken by one line of an overlay, adds something, and the policy holds."""
    plain = built(root, f"{OVERLAYS}/staging")
    found = []
    for name, objects in with_components(root).items():
        wrong = policy(root, objects) or "adds nothing" * (objects == plain)
        found += [f"{name}: {wrong}"] if wrong else []
    return "\n".join(found)


@cache
def with_components(root: Path) -> dict[str, list[manifests.Object]]:
    """What staging renders with each component alone, and with those that add nothing twice."""
    names = sorted(path.name for path in (root / COMPONENTS).iterdir())
    together = [name for name in names if name not in {"argocd", "ingress"}]
    chosen = {name: [name] for name in names}
    if "argocd" in names:
        chosen["together"] = [*together, "argocd"]
    made = {}
    for name, taken in chosen.items():
        with TemporaryDirectory() as folder:
            copy = copytree(root / "deploy", Path(folder) / "deploy").parent
            overlay = copy / OVERLAYS / "staging/kustomization.yaml"
            lines = ", ".join(f"../../components/{one}" for one in taken)
            text = overlay.read_text()
            assert text.count("components: []\n") == 1
            overlay.write_text(text.replace("components: []\n", f"components: [{lines}]\n"))
            made[name] = built(copy, f"{OVERLAYS}/staging")
    return made


def flux(root: Path) -> str:
    """Flux applies each object of the overlay once, the migration after what it needs."""
    whole = {object_key(made) for made in built(root, f"{OVERLAYS}/staging")}
    waiting = list(yaml.safe_load_all((root / FLUX).read_text()))
    parts: list[list[tuple[str, str]]] = []
    seen: list[str] = []
    for one in waiting:
        spec = one["spec"]
        if [need["name"] for need in spec.get("dependsOn", [])] != seen[-1:]:
            return f"{one['metadata']['name']} comes too early"
        seen.append(one["metadata"]["name"])
        with TemporaryDirectory() as folder:
            copy = copytree(root / "deploy", Path(folder) / "deploy").parent
            (copy / "part").mkdir()
            part = {"resources": [f"../{spec['path']}"], "patches": spec["patches"]}
            (copy / "part/kustomization.yaml").write_text(yaml.safe_dump(part))
            parts.append([object_key(made) for made in built(copy, "part")])
    kinds = [{kind for kind, _ in part} for part in parts]
    once = sorted(key for part in parts for key in part) == sorted(whole)
    ordered = "ConfigMap" in kinds[0] and kinds[1] == {"Job"} and "Deployment" in kinds[2]
    replaces = waiting[1]["spec"].get("force") and all(one["spec"].get("wait") for one in waiting)
    return "" if once and ordered and replaces else f"it applies {parts}"


def object_key(made: manifests.Object) -> tuple[str, str]:
    return made["kind"], made["metadata"]["name"]


def queue_names(root: Path) -> str:
    """KEDA looks where the jobs wait: at what the modules of the queue call it."""
    [path] = (root / COMPONENTS / "keda").glob("[!k]*.yaml")
    scaled = next(iter(yaml.safe_load_all(path.read_text())))
    text = " ".join(scaled["spec"]["triggers"][0]["metadata"].values())
    modules = "".join(found.read_text() for found in root.glob("src/*/*.py"))
    [package] = [found.name for found in (root / "src").iterdir()]
    # The names in the source, and what they come to.
    wanted = {
        "postgres": ("status = 'todo' and queue_name = 'default'", "status = 'todo' and queue"),
        "rabbitmq": ("settings.rabbitmq_queue or str(__package__)", package),
        "redis": ('WAITING = f"{NAMESPACE}:{QUEUE}"', f"dramatiq:{package}"),
    }[path.stem]
    return "" if wanted[0] in modules and wanted[1] in text else f"{path.name} looks at {text}"


def policy(root: Path, objects: list[manifests.Object]) -> str:
    wanted = processes(root) - ONE_OFF_BY_HAND
    return "\n".join(manifests.faults(objects, processes=wanted, settings=settings(root)))


def secrets(root: Path) -> str:
    """The Secret that the manifests want has what the service must be given, and only that."""
    listed = re.findall(
        r"^#   ([A-Z0-9_]+): ", (root / BASE / "kustomization.yaml").read_text(), re.M
    )
    read = settings(root)
    required = {name for name, default in read.items() if default is REQUIRED}
    possible = {name for name, default in read.items() if default is REQUIRED or default is None}
    fits = required <= set(listed) <= possible
    return "" if fits else f"{required} are required, the Secret holds {listed}"


def example_environment(root: Path) -> str:
    listed, read = list(example(root)), list(settings(root))
    return "" if listed == read else f"config.py reads {read}, .env.example has {listed}"


def compose(root: Path) -> str:
    """What development attaches by default is what compose starts."""
    services = yaml.safe_load((root / "compose.yaml").read_text())["services"]
    started = {
        published.rsplit(":", 1)[0]
        for service in services.values()
        if "build" not in service
        for published in service.get("ports", [])
    }
    urls = [urlsplit(value) for value in example(root).values() if "://" in value]
    attached = {f"{url.hostname}:{url.port}" for url in urls}
    if "postgres" in services:
        started.add(services["postgres"]["environment"]["POSTGRES_PASSWORD"])
        attached.add(str(urlsplit(example(root)["DATABASE_URL"]).password))
    wrong = "" if started == attached else f"attached are {attached}, compose starts {started}"
    return wrong + schema("compose-spec", "compose.yaml", root)


def compose_processes(root: Path) -> str:
    """compose.yaml runs each process as a release on an engine does, after the migration."""
    services = yaml.safe_load((root / "compose.yaml").read_text())["services"]
    own = {name: service for name, service in services.items() if "build" in service}
    model = "import json; from deploy.compose import model; print(json.dumps(model('staging', {})))"
    command = [sys.executable, "-c", model]
    released = json.loads(subprocess.check_output(command, cwd=root, text=True))["services"]
    if own.keys() != released.keys():
        return f"compose starts {sorted(own)}, a release {sorted(released)}"
    found = []
    backing = {name: {"condition": "service_healthy"} for name in services.keys() - own.keys()}
    migrated = {"release": {"condition": "service_completed_successfully"}}
    for name, service in own.items():
        for key in SAME:
            if service.get(key) != released[name].get(key):
                found.append(f"{name} has {key} {service.get(key)}")
        before = backing | (migrated if name != "release" and "release" in own else {})
        if service["depends_on"] != before:
            found.append(f"{name} waits for {service['depends_on']}")
        grace = released[name].get("stop_grace_period", "0s")
        if int(service["stop_grace_period"][:-1]) < int(grace[:-1]):
            found.append(f"{name} is killed before {grace}")
        beats = [made["environment"].get("HEARTBEAT_FILE") for made in (service, released[name])]
        if beats[0] != beats[1]:
            found.append(f"{name} beats in {beats[0]}")
    return "\n".join(found)


def github(root: Path) -> str:
    files = sorted(str(path.relative_to(root)) for path in (root / WORKFLOWS).iterdir())
    return (
        said("actionlint", "-no-color", "-shellcheck=", "-pyflakes=", *files, cwd=root)
        + said("zizmor", "--offline", "--quiet", "--color=never", ".github", cwd=root)
        + "".join(schema("github-workflows", file, root) for file in files)
        + schema("dependabot", ".github/dependabot.yml", root)
    )


def gitlab(root: Path) -> str:
    pipeline = yaml.safe_load((root / GITLAB).read_text())
    jobs = [job for job in pipeline.values() if isinstance(job, dict) and "script" in job]
    strange = {job["stage"] for job in jobs} ^ set(pipeline["stages"])
    wrong = f"stages without a job, or jobs without a stage: {strange}" if strange else ""
    # It notices what jobs want of each other.
    wrong += said("cimulator", "validate", "--output=/dev/null", GITLAB, cwd=root)
    return wrong + schema("gitlab-ci", GITLAB, root, "--data-transform=gitlab-ci")


def pipeline_commands(root: Path) -> str:
    """Every pipeline runs the same commands, and they are there."""
    words = {
        one.name: re.findall(r"(?<![\w/])bin/(?:release )?\w+", one.commands)
        for one in pipeline(root)
    }
    for name, run in words.items():
        if run != COMMANDS.get(name.removeprefix("ci/")):
            return f"the job {name} runs {run}"
    if absent := COMMANDS.keys() - words.keys():
        return f"there is no job {sorted(absent)}"
    names = {word.split()[0] for run in words.values() for word in run}
    scripts = [root / name for name in sorted(names)]
    missing = [one.name for one in scripts if not (one.exists() and one.stat().st_mode & 0o111)]
    return f"not there: {missing}" if missing else ""


def delivery(root: Path) -> str:
    """What is tested is built once and goes on by digest, one environment after the other; only a
    job of an environment has its secrets, and a change that is not merged has none."""
    jobs = {job.name: job for job in pipeline(root)}
    found = []
    for name, wanted in BEFORE.items():
        if late := wanted - jobs[name].before:
            found.append(f"{name} does not wait for {sorted(late)}")
    for name, job in jobs.items():
        secret = re.findall(r"\bsecrets\.\w+|\$(?:KUBECONFIG|CONFIG)\b", job.text)
        if name.startswith(("release-", "run-")) and job.environment != name.partition("-")[2]:
            found.append(f"{name} is of {job.environment}")
        if job.environment != job.alone:
            found.append(f"{name} may run beside another of {job.environment}")
        if secret and not job.environment and name != "build":
            found.append(f"{name} reads {secret}")
        if job.unmerged and (secret or job.environment):
            found.append(f"{name} has {secret} of {job.environment} before the merge")
        if job.rights is None or (job.rights and name != "build"):
            found.append(f"{name} may write {job.rights}")
        if not job.minutes:
            found.append(f"{name} may run for hours")
        if name.startswith("release-") and not job.built:
            found.append(f"{name} takes another image than the one that was built")
    if not jobs["release-production"].asked:
        found.append("nobody is asked before production")
    return "\n".join(found)


def versions(root: Path) -> str:
    """One Python and one uv, wherever they are named."""
    found: dict[str, set[str]] = {"python": set(), "uv": set()}
    for name, program, pattern in (
        ("Dockerfile", "python", r"python:([0-9.]+)"),
        ("Dockerfile", "uv", r"/uv:([0-9.]+)"),
        ("pyproject.toml", "uv", r"uv_build==([0-9.]+)"),
        (GITHUB, "python", r"python-version: \"([0-9.]+)"),
        (GITHUB, "uv", r" version: \"([0-9.]+)"),
        (DELIVER, "python", r"python-version: \"([0-9.]+)"),
        (DELIVER, "uv", r" version: \"([0-9.]+)"),
        (GITLAB, "python", r"python:([0-9.]+)"),
    ):
        if (root / name).exists():
            stated = re.findall(pattern, (root / name).read_text())
            found[program].update(stated or [f"none in {name}"])
    return "".join(f"{program}: {v}\n" for program, v in found.items() if len(v) > 1)


# ---- what they read


def said(name: str, *arguments: str, cwd: Path, given: str = "") -> str:
    """What a tool says when it is not content."""
    run = subprocess.run(
        [tool(name), *arguments], cwd=cwd, input=given, capture_output=True, text=True
    )
    return f"{name} ends with {run.returncode}: {run.stdout}{run.stderr}" if run.returncode else ""


def schema(name: str, file: str, root: Path, *options: str) -> str:
    builtin = f"--builtin-schema=vendor.{name}"
    return said("check-jsonschema", builtin, *options, file, cwd=root)


@cache
def built(root: Path, folder: str) -> list[manifests.Object]:
    command = [tool("kubectl"), "kustomize", folder]
    made = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    return list(yaml.safe_load_all(made))


def processes(root: Path) -> set[str]:
    return {line.split(":")[0] for line in (root / "Procfile").read_text().splitlines()}


def settings(root: Path) -> dict[str, Any]:
    """Every variable of the class Settings with its default."""
    [config] = root.glob("src/*/config.py")
    classes = [
        node for node in ast.parse(config.read_text()).body if isinstance(node, ast.ClassDef)
    ]
    [fields] = [node.body for node in classes if node.name == "Settings"]
    return {
        field.target.id.upper(): default(field.value)
        for field in fields
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def default(value: ast.expr | None) -> Any:
    """The default that a field is given: as it stands, or as the argument of Field()."""
    if isinstance(value, ast.Call):
        value = value.args[0] if value.args else None
    return REQUIRED if value is None else ast.literal_eval(value)


def example(root: Path) -> dict[str, str]:
    lines = (root / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


class Job(NamedTuple):
    """A job of a pipeline, whichever home it has."""

    name: str
    commands: str
    before: set[str]  # the jobs that have ended well when it begins
    environment: str | None
    alone: str | None  # no other job of this group runs meanwhile
    unmerged: bool  # may run for what is not merged
    built: bool  # takes the image that the job build gives
    asked: bool  # waits for a person, or for the reviewers of its environment
    rights: list[str] | None  # what it may write; None if it does not say
    minutes: Any
    text: str


def pipeline(root: Path) -> list[Job]:
    return list(_github(root) if (root / WORKFLOWS).exists() else _gitlab(root))


def _github(root: Path) -> Iterator[Job]:
    for path in sorted((root / WORKFLOWS).iterdir()):
        workflow = yaml.safe_load(path.read_text())
        triggers = set(workflow[True])  # which is what YAML takes the word "on" for
        needs = {name: job.get("needs", []) for name, job in workflow["jobs"].items()}
        needs = {name: {one} if isinstance(one, str) else {*one} for name, one in needs.items()}
        for name, job in workflow["jobs"].items():
            environment, group = job.get("environment"), job.get("concurrency", {})
            rights = job.get("permissions") if workflow.get("permissions") == {} else None
            text = yaml.safe_dump(job)
            yield Job(
                name=f"ci/{name}" if path.stem == "ci" else name,
                commands="\n".join(step.get("run", "") for step in job["steps"]),
                before=_all_before(name, needs),
                environment=environment["name"] if isinstance(environment, dict) else environment,
                alone=group.get("group") if group.get("cancel-in-progress") is False else None,
                unmerged=not triggers <= {"push", "workflow_dispatch"},
                built="IMAGE: ${{ needs.build.outputs.image }}" in text,
                asked=environment is not None,
                rights=rights and [one for one, right in rights.items() if right != "read"],
                minutes=job.get("timeout-minutes"),
                text=text,
            )


def _gitlab(root: Path) -> Iterator[Job]:
    whole = yaml.safe_load((root / GITLAB).read_text())
    for name, job in whole.items():
        if not isinstance(job, dict) or "script" not in job:
            continue
        while "extends" in job:
            own = {key: value for key, value in job.items() if key != "extends"}
            job = whole[job["extends"]] | own
        job = whole["default"] | job
        rules = job.get("rules", [{}])
        earlier = set(whole["stages"][: whole["stages"].index(job["stage"])])
        merged = "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"
        yield Job(
            name=name,
            commands="\n".join(job["script"]),
            before={one for one, other in whole.items() if _stage(other) in earlier},
            environment=job.get("environment", {}).get("name"),
            alone=job.get("resource_group"),
            unmerged=not all(merged in rule.get("if", "").split(" && ") for rule in rules),
            built='"$IMAGE"' in "".join(job["script"]),
            asked=[(rule.get("when"), rule.get("allow_failure")) for rule in rules]
            == [("manual", False)],
            rights=[],
            minutes=job.get("timeout"),
            text=yaml.safe_dump(job),
        )


def _stage(job: Any) -> Any:
    return job.get("stage") if isinstance(job, dict) else None


def _all_before(name: str, needs: dict[str, set[str]]) -> set[str]:
    """The jobs that have ended well when this one begins."""
    return needs[name].union(*(_all_before(one, needs) for one in needs[name]))


# ---- nothing is wrong in what is generated


@sets()
@pytest.mark.parametrize(
    "check",
    [compose_processes, delivery, dockerfile, example_environment, pipeline_commands, versions],
    ids=lambda c: c.__name__,
)
def test_it_can_be_built(
    generate: Generate, answers: cases.Answers, check: Callable[[Path], str]
) -> None:
    assert check(generate(**answers).path) == ""


@sets(kubernetes=True)
@pytest.mark.parametrize(
    "check",
    [components, kubernetes_policy, kubernetes_schema, overlays, secrets],
    ids=lambda c: c.__name__,
)
def test_it_can_be_deployed(
    generate: Generate, answers: cases.Answers, check: Callable[[Path], str]
) -> None:
    assert check(generate(**answers).path) == ""


@pytest.mark.parametrize(
    "answers",
    [one for one in cases.pairwise() if one["kubernetes"] and one["flavor"] != "api"],
    ids=cases.name,
)
def test_workers_are_scaled_by_the_queue_that_they_empty(
    generate: Generate, answers: cases.Answers
) -> None:
    assert queue_names(generate(**answers).path) == ""


def test_flux_migrates_before_it_rolls_out(generate: Generate) -> None:
    assert flux(generate().path) == ""


@pytest.mark.parametrize("word", ["null", "on", "true", "yes"])
def test_a_name_that_yaml_takes_for_a_value_stays_a_name(generate: Generate, word: str) -> None:
    root = generate(project_name=word).path
    assert kubernetes_policy(root) + kubernetes_schema(root) == ""
    assert overlays(root) + components(root) == ""
    assert yaml.safe_load((root / "compose.yaml").read_text())["name"] == word


@pytest.mark.parametrize(
    "answers", [one for one in cases.pairwise() if one["services"]], ids=cases.name
)
def test_compose_starts_what_development_attaches(
    generate: Generate, answers: cases.Answers
) -> None:
    assert compose(generate(**answers).path) == ""


# The pipelines are static, so one set stands for all.


def test_its_pipeline_is_valid_on_github(generate: Generate) -> None:
    assert github(generate(ci="github").path) == ""


def test_its_pipeline_is_valid_on_gitlab(generate: Generate) -> None:
    assert gitlab(generate(ci="gitlab").path) == ""


def test_the_release_of_the_readme_can_be_built(generate: Generate, tmp_path: Path) -> None:
    copy = copytree(generate().path, tmp_path / "copy")
    readme = (copy / "deploy/k8s/README.md").read_text()
    [text] = re.findall(r"```yaml\n# (\S+)\n(.+?)```", readme, re.S)
    (copy / text[0]).parent.mkdir()
    (copy / text[0]).write_text(re.sub(r"\bID\b", "invoiceflow-1234567-abcdef", text[1]))
    objects = built(copy, str(Path(text[0]).parent))
    assert policy(copy, objects) == ""
    pods = [made["spec"]["template"] for made in objects if "template" in made.get("spec", {})]
    [config] = [made["data"] for made in objects if made["kind"] == "ConfigMap"]
    [job] = [made["metadata"]["name"] for made in objects if made["kind"] == "Job"]
    versions = {pod["metadata"]["labels"]["app.kubernetes.io/version"] for pod in pods}
    assert {config["RELEASE_ID"], job, *versions} == {"invoiceflow-1234567-abcdef"}
    assert len(pods) == 4
    assert all("@sha256:" in pod["spec"]["containers"][0]["image"] for pod in pods)


def test_a_release_on_a_cluster_is_its_overlay_with_one_image_and_its_own_secret(
    generate: Generate, tmp_path: Path
) -> None:
    copy = copytree(generate().path, tmp_path / "copy")
    overlay = copy / "deploy/k8s/overlays/trial"
    overlay.mkdir(parents=True)
    (overlay / "kustomization.yaml").write_text("namespace: trial\nresources: [../../base]\n")
    release, image = "invoiceflow-1234567-abcdef", f"elsewhere.example/it@sha256:{'a' * 64}"
    code = (
        "import json; from deploy.kubernetes import Kubernetes; made = Kubernetes('trial'); "
        f"print(json.dumps([made.rendered({release!r}, {image!r}, {{}}), "
        "sorted(made.fixed()), made.namespace]))"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-c", code]
    done = subprocess.check_output(command, cwd=copy, env=os.environ | {"PATH": path}, text=True)
    manifest, fixed, namespace = json.loads(done)

    made = list(yaml.safe_load_all(manifest))
    plain = built(copy, "deploy/k8s/overlays/trial")
    assert sorted(one["kind"] for one in made) == sorted(one["kind"] for one in plain)
    for pod in [one["spec"]["template"] for one in made if "template" in one.get("spec", {})]:
        assert pod["metadata"]["annotations"] == {"delivery/release": release}
        assert pod["metadata"]["labels"]["app.kubernetes.io/version"] == release
        [container] = pod["spec"]["containers"]
        assert container["image"] == image
        [used] = [one["secretRef"] for one in container["envFrom"] if "secretRef" in one]
        assert used["name"] == f"release-{release}"
    [job] = [one["metadata"]["name"] for one in made if one["kind"] == "Job"]
    assert job == "invoiceflow-release-1234567-abcdef"
    assert (fixed, namespace) == (["GRACE_SECONDS"], "trial")
    assert (
        said("kubernetes-validate", "--strict", "--quiet", "/dev/stdin", cwd=copy, given=manifest)
        == ""
    )


# ---- and each check notices a fault

Fault = tuple[str, str, str, str]  # file, what stands there once, what takes its place, complaint


def shown(faults: Mapping[Callable[[Path], str], Sequence[Fault]]) -> pytest.MarkDecorator:
    """Each check with each of its faults."""
    pairs = [
        pytest.param(check, fault, id=f"{check.__name__}-{number}-{fault[3]}")
        for check, several in faults.items()
        for number, fault in enumerate(several, 1)
    ]
    return pytest.mark.parametrize(("check", "fault"), pairs)


def complained(check: Callable[[Path], str], fault: Fault, copy: Path) -> str:
    """What a check says once this fault is in the copy of a repository."""
    file, old, new, _ = fault
    text = (copy / file).read_text()
    assert text.count(old) == 1
    (copy / file).write_text(text.replace(old, new))
    return check(copy)


WEB, WORKER, CLOCK, RELEASE = (
    f"{BASE}/{process}.yaml" for process in ("web", "worker", "clock", "release")
)
ACCOUNT, NETWORK = f"{BASE}/serviceaccount.yaml", f"{BASE}/networkpolicy.yaml"
CONFIG, HUB = f"{BASE}/config.env", f"{BASE}/kustomization.yaml"
PRODUCTION = f"{OVERLAYS}/production/kustomization.yaml"
KEDA, KEDA_RABBITMQ, KEDA_REDIS = (
    f"{COMPONENTS}/keda/{broker}.yaml" for broker in ("postgres", "rabbitmq", "redis")
)
INGRESS, ROUTE, EXTERNAL = (
    f"{COMPONENTS}/{name}/{name}.yaml" for name in ("ingress", "httproute", "externalsecret")
)
ARGOCD, SCALED = (f"{COMPONENTS}/{name}/kustomization.yaml" for name in ("argocd", "keda"))
# Files that only other answers than the defaults bring.
MADE_WITH: dict[str, cases.Answers] = {
    GITLAB: {"ci": "gitlab"},
    KEDA_RABBITMQ: {"broker": "rabbitmq"},
    KEDA_REDIS: {"services": ["postgres", "redis"], "broker": "redis"},
}
# For each check: a file, what stands there once, what it becomes, and what is said about it.
FAULTS: dict[Callable[[Path], str], list[Fault]] = {
    dockerfile: [
        ("Dockerfile", "python:3.14-slim-trixie", "python", "DL3006"),
        ("Dockerfile", '["python", "-m", "invoiceflow"]', "python -m invoiceflow", "DL3025"),
        ("Dockerfile", "USER 10001:10001", "USER root", "DL3002"),
        ("Dockerfile", "WORKDIR /src", "WORKDIR src", "DL3000"),
    ],
    versions: [
        ("Dockerfile", "python:3.14-", "python:3.13-", "python:"),
        ("Dockerfile", "/uv:0.13.9", "/uv:0.13.8", "uv:"),
        (GITHUB, 'python-version: "3.14"', 'python-version: "3.13"', "python:"),
        (GITHUB, ' version: "0.13.9"', ' version: "0.13.8"', "uv:"),
        (GITLAB, "python:3.14-", "python:3.13-", "python:"),
    ],
    example_environment: [
        (".env.example", "GRACE_SECONDS=20\n", "", "'GRACE_SECONDS'"),
        (".env.example", "GRACE_SECONDS=20\n", "GRACE_SECONDS=20\nOTHER=1\n", "'OTHER'"),
    ],
    secrets: [
        (HUB, "#   DATABASE_URL: ", "#   ", "'DATABASE_URL'"),
        (HUB, "#   DATABASE_URL: ", "#   OTHER_URL: it\n#   DATABASE_URL: ", "'OTHER_URL'"),
    ],
    compose: [
        ("compose.yaml", '"127.0.0.1:5432:', '"127.0.0.1:5433:', "5433"),
        ("compose.yaml", '"127.0.0.1:5432:', '"5432:', "'5432'"),
        ("compose.yaml", "PASSWORD: postgres", "PASSWORD: other", "other"),
        (
            "compose.yaml",
            "healthcheck:\n      test: [CMD, pg",
            "healthchek:\n      test: [CMD, pg",
            "healthchek",
        ),
        (".env.example", "@127.0.0.1:5432/", "@127.0.0.1:5433/", "5433"),
    ],
    compose_processes: [
        ("Procfile", "worker:", "drudge:", "a release"),
        ("compose.yaml", "cap_drop: [ALL]", "cap_drop: []", "cap_drop"),
        ("compose.yaml", "command: [clock]", "command: [worker]", "clock has command"),
        ("compose.yaml", "read_only: true", "read_only: false", "read_only"),
        ("compose.yaml", "no-new-privileges:true", "no-new-privileges:false", "security_opt"),
        ("compose.yaml", "tmpfs: [/tmp]", "tmpfs: [/tmp, /app]", "tmpfs"),
        ("compose.yaml", 'user: "10001:10001"', 'user: "0:0"', "has user"),
        ("compose.yaml", "127.0.0.1:8000/readyz", "127.0.0.1:8000/livez", "web has healthcheck"),
        ("compose.yaml", "st_mtime > 60", "st_mtime > 600", "worker has healthcheck"),
        ("compose.yaml", "stop_grace_period: 45s", "stop_grace_period: 34s", "killed before 35s"),
        ("compose.yaml", "service_completed_successfully", "service_started", "waits for"),
        ("compose.yaml", "{condition: service_healthy}", "{condition: service_started}", "waits"),
        ("compose.yaml", "    depends_on: *backing\n", "", "release waits for"),
    ],
    github: [
        (GITHUB, "bin/ci", 'echo "${{ github.head_ref }}"', "template-injection"),
        (GITHUB, "setup-uv@20cfd1bf945f4377ade1205e4dbc17946fc9a30d", "setup-uv@v10", "unpinned"),
        (ROLLBACK, "contents: read", "contents: everything", "contents"),
        (GITHUB, "github.event_name ==", "github.event_nam ==", "event_nam"),
        (DELIVER, "branches: [main]", "branch: [main]", "branch"),
        (DELIVER, "production.outputs.release", "production.outputs.id", 'property "id"'),
        (DELIVER, "    needs: check\n", "    needs: checks\n", "checks"),
        (ROLLBACK, "type: environment", "type: place", "place"),
        (GITHUB, "check:\n    runs-on: ubuntu-24.04", "check:\n    runs-on: ubuntu", "ubuntu"),
        (".github/dependabot.yml", "system: docker", "system: dockr", "dockr"),
    ],
    gitlab: [
        (GITLAB, "    - bin/setup", "    bin/setup:", "script"),
        (GITLAB, "interruptible: true", "interruptible: maybe", "interruptible"),
        (GITLAB, "\nbuild:\n", "\nimage:\n", "image"),
        (GITLAB, "stage: build", "stage: deploy", "deploy"),
        (GITLAB, "extends: .by_hand", "extends: .by_head", "job '.by_head'"),
        (GITLAB, "stage: build\n", "stage: build\n  needs: [chek]\n", "job 'chek'"),
    ],
    pipeline_commands: [
        (GITHUB, "      - run: bin/ci\n", "", "the job ci/check runs"),
        (GITHUB, "bin/setup", "bin/install", "bin/install"),
        (DELIVER, "bin/release production", "bin/release staging", "job release-production runs"),
        (GITLAB, "    - bin/ci\n", "", "the job check runs"),
        (GITLAB, 'bin/deploy "$PRODUCTION_RELEASE"', "kubectl apply", "job run-production runs []"),
        (ROLLBACK, "bin/rollback", "bin/deploy", "the job rollback runs"),
    ],
    delivery: [
        (DELIVER, "    needs: check\n", "", "build does not wait for ['check']"),
        (DELIVER, "needs: [build, run-staging]", "needs: build", "not wait for ['run-staging']"),
        (
            DELIVER,
            "    needs: release-production\n",
            "    needs: build\n",
            "not wait for ['release-pro",
        ),
        (DELIVER, "    environment: production\n", "    environment: staging\n", "is of staging"),
        (DELIVER, "    environment: production\n", "", "is of None"),
        (
            DELIVER,
            'URL }}"}\n    concurrency: {group: production',
            'URL }}"}\n    concurrency: {group: prod',
            "beside another of production",
        ),
        (DELIVER, "permissions: {}", "permissions: {contents: read}", "may write None"),
        (ROLLBACK, "contents: read", "contents: write", "may write ['contents']"),
        (ROLLBACK, "    timeout-minutes: 10\n", "", "may run for hours"),
        (
            ROLLBACK,
            "    environment: ${{ inputs.environment }}\n",
            "",
            "rollback reads",
        ),
        (
            ROLLBACK,
            "cancel-in-progress: false",
            "cancel-in-progress: true",
            "may run beside another",
        ),
        (
            GITHUB,
            "      - run: bin/build",
            '      - run: bin/build\n        env: {KEY: "${{ secrets.KEY }}"}',
            "ci/build has ['secrets.KEY'] of None before the merge",
        ),
        (DELIVER, "  push:\n", "  pull_request_target:\n  push:\n", "of staging before the merge"),
        (GITLAB, "stage: run-production", "stage: run-staging", "run-production does not wait"),
        (GITLAB, "      allow_failure: false\n", "      allow_failure: true\n", "nobody is asked"),
        (
            GITLAB,
            "environment: {name: production, action: prepare}\n  resource_group: production",
            "environment: {name: production, action: prepare}",
            "may run beside another",
        ),
        (
            GITLAB,
            'bin/release production "$IMAGE"',
            'bin/release production "$OTHER"',
            "takes another image",
        ),
        (
            GITLAB,
            'interruptible: false\n  rules:\n    - if: $DELIVERY == "on" &&',
            'interruptible: false\n  rules:\n    - if: $DELIVERY == "on" ||',
            "of staging before the merge",
        ),
        (
            GITLAB,
            "    - bin/setup\n",
            '    - bin/setup\n    - cat "$CONFIG"\n',
            "check has ['$CONFIG'] of None before the merge",
        ),
        (GITLAB, "  timeout: 15 minutes\n", "", "may run for hours"),
    ],
    kubernetes_schema: [
        (WEB, "failureThreshold: 60", "failureTreshold: 60", "failureTreshold"),
        (WEB, "minReplicas: 2", "minReplicas: two", "minReplicas"),
        (PRODUCTION, "minReplicas, value: 3}", "minReplicas, value: three}", "minReplicas"),
        (WEB, "        - name: web\n          image", "        - image", "name"),
        (RELEASE, "backoffLimit: 3", "backofLimit: 3", "backofLimit"),
    ],
    components: [
        (
            INGRESS,
            "name: web\n                port",
            "name: api\n                port",
            "leads to ('api'",
        ),
        (INGRESS, "port: {name: http}", "port: {name: https}", "'https'), which is not there"),
        (INGRESS, "    - hosts: [invoiceflow.", "    - hosts: [other.", "a host without TLS"),
        (INGRESS, "secretName: web-tls", "secretName: tls", "no certificate tls"),
        (INGRESS, "pathType: Prefix", "pathType: All", "pathType cannot be All"),
        (ROUTE, "port: 80", "port: 8000", "'invoiceflow-web', 8000), which is not there"),
        (ROUTE, "hostnames:", "hosts:", "has or lacks ['hostnames', 'hosts']"),
        (ROUTE, "networking.k8s.io/v1", "networking.k8s.io/v1beta1", "is not known here"),
        (
            EXTERNAL,
            "  target:\n    name: secrets",
            "  target:\n    name: secret",
            "needs ('Secret', 'secret')",
        ),
        (
            EXTERNAL,
            '        key: "invoiceflow"',
            "        keys: [invoiceflow]",
            "has or lacks ['key', 'keys']",
        ),
        (KEDA, "name: invoiceflow-worker", "name: worker", "scales worker, which is not there"),
        (
            KEDA,
            "FromEnv: DATABASE_URL",
            "FromEnv: POSTGRES_URL",
            "POSTGRES_URL, which nothing reads",
        ),
        (KEDA, 'targetQueryValue: "100"', "targetQueryValue: 100", "targetQueryValue is 100"),
        (KEDA, "minReplicaCount: 2", "minReplicaCount: 1", "gap in each rollout"),
        (KEDA, "type: postgresql", "type: postgres", "type cannot be postgres"),
        (KEDA_RABBITMQ, "mode: QueueLength", "mode: Length", "mode cannot be Length"),
        (
            KEDA_REDIS,
            "      authenticationRef:\n        name: redis",
            "      authenticationRef:\n        name: other",
            "'other'), which is not there",
        ),
        (
            KEDA_REDIS,
            "name: keda\n      key: address",
            "name: other\n      key: address",
            "('Secret', 'other')",
        ),
        (SCALED, "      - {op: remove, path: /spec/replicas}\n", "", "both say how many"),
        (
            SCALED,
            "      - {op: replace, path: /metadata/annotations/replicas, value: keda}\n",
            "",
            "both say how many",
        ),
        (ARGOCD, 'sync-wave: "-2"', 'sync-wave: "0"', "is of wave 0, not -2"),
        (ARGOCD, "argocd.argoproj.io/hook: Sync", "argocd.argoproj.io/hook: PreSync", "in the way"),
        (ARGOCD, "target: {kind: Job}", "target: {kind: CronJob}", "is of wave None, not -1"),
    ],
    queue_names: [
        (KEDA, "status = 'todo'", "status = 'doing'", "looks at"),
        (KEDA_RABBITMQ, 'queueName: "invoiceflow"', 'queueName: "jobs"', "looks at RABBITMQ_URL"),
        (KEDA_REDIS, "dramatiq:invoiceflow", "invoiceflow", "looks at"),
        ("src/invoiceflow/queue_postgres.py", "and queue_name = 'default'", "", "looks at"),
    ],
    flux: [
        (FLUX, "  dependsOn: [{name: invoiceflow-staging-release}]\n", "", "comes too early"),
        (
            FLUX,
            "  force: true # a Job cannot be changed: the next release's takes its place\n",
            "",
            "it applies",
        ),
        (FLUX, "app.kubernetes.io/component!=release", "app.kubernetes.io/component", "it applies"),
        (
            FLUX,
            "    - target: {labelSelector: app.kubernetes.io/component=release}",
            "    - target: {kind: CronJob}",
            "it applies",
        ),
    ],
    kubernetes_policy: [
        # forms
        (WEB, "apiVersion: policy/v1", "apiVersion: policy/v1beta1", "policy/v1beta1"),
        (
            WEB,
            "kind: PodDisruptionBudget\nmetadata:\n  name: web",
            "kind: PodDisruptionBudget\nmetadata:\n  name: Web",
            "is not a name",
        ),
        (WEB, "type: ClusterIP", "type: NodePort", "NodePort"),
        (WEB, "requests: {cpu: 100m, ", "requests: {cpu: 100 m, ", "no quantity"),
        (NETWORK, "protocol: UDP", "protocol: DNS", "protocol"),
        (NETWORK, "[Ingress, Egress]", "[Ingress, Outgress]", "Outgress"),
        (RELEASE, "restartPolicy: Never", "restartPolicy: Always", "restart"),
        (RELEASE, "      restartPolicy: Never\n", "", "restart"),
        # processes
        ("Procfile", "worker:", "drudge:", "started are"),
        (HUB, "  - worker.yaml\n", "", "started are"),
        (WORKER, "args: [worker]", "args: [workers]", "started are"),
        (WORKER, "args: [worker]", "args: [release]", "no place"),
        (WORKER, "args: [worker]", "command: [python]", "command of its own"),
        # references
        (
            WORKER,
            "                name: config",
            "                name: settings",
            "ConfigMap settings",
        ),
        (WORKER, "                name: secrets", "                name: secret", "Secret secret,"),
        (
            WORKER,
            "serviceAccountName: service",
            "serviceAccountName: worker",
            "ServiceAccount worker",
        ),
        (WORKER, "            - name: tmp\n", "            - name: temp\n", "mounts temp"),
        # selectors
        (
            NETWORK,
            "  podSelector:\n    matchLabels: {}",
            "  podSelector: {}",
            "other services' pods",
        ),
        (
            WEB,
            "  selector:\n    app.kubernetes.io/component: web",
            "  selector:\n    app.kubernetes.io/component: api",
            "selects no pod",
        ),
        (
            WEB,
            "  podSelector:\n    matchLabels:\n      app.kubernetes.io/component: web",
            "  podSelector:\n    matchLabels:\n      app.kubernetes.io/component: api",
            "selects no pod",
        ),
        (WEB, "targetPort: http", "targetPort: https", "wants port https"),
        (WEB, "- port: http", "- port: https", "wants port https"),
        (
            WORKER,
            "      labels:\n        app.kubernetes.io/component: worker",
            "      labels:\n        app.kubernetes.io/component: web",
            "selects no pod",
        ),
        # probes
        (WEB, "path: /readyz", "path: /livez", "only traffic is /readyz"),
        (
            WEB,
            "          livenessProbe:\n            httpGet: {path: /livez",
            "          livenessProbe:\n            httpGet: {path: /readyz",
            "only traffic is /readyz",
        ),
        (WEB, "{path: /readyz, port: http}", "{path: /readyz, port: https}", "is probed on https"),
        (WEB, "startupProbe:", "startup:", "has 2 probes"),
        (WORKER, "livenessProbe:", "liveness:", "does not look at the file"),
        (CLOCK, "value: /tmp/heartbeat", "value: /tmp/other", "does not look at the file"),
        # environment
        (WEB, 'value: "8000"', 'value: "8001"', "listens on 8001"),
        (WEB, "containerPort: 8000", "containerPort: 80", "listens on 8000"),
        (WEB, "- name: PORT", "- name: HTTP_PORT", "HTTP_PORT, which nothing reads"),
        (WEB, "- name: PORT", "- {name: PORT, value: '1'}\n            - name: PORT", "twice"),
        (
            WEB,
            "terminationGracePeriodSeconds: 45",
            "terminationGracePeriodSeconds: 34",
            "period of 35 s",
        ),
        (
            WORKER,
            "terminationGracePeriodSeconds: 45",
            "terminationGracePeriodSeconds: 24",
            "period of 25 s",
        ),
        (WEB, "sleep: {seconds: 5}", "sleep: {seconds: 16}", "period of 46 s"),
        (WEB, "sleep: {seconds: 5}", "exec: {command: [sleep, '5']}", "before balancers know"),
        (CONFIG, "GRACE_SECONDS=20", "GRACE_SECONDS=60", "period of 75 s"),
        (
            "src/invoiceflow/config.py",
            "drain_seconds: float = Field(5",
            "drain_seconds: float = Field(20",
            "period of 50 s",
        ),
        (CONFIG, "GRACE_SECONDS=20", "GRACE_SECOND=20", "GRACE_SECOND, which nothing reads"),
        (CONFIG, "GRACE_SECONDS=20", "WEBHOOK_SECRET=abc", "shows a secret: WEBHOOK_SECRET"),
        (CONFIG, "GRACE_SECONDS=20", "DATABASE_URL=abc", "shows a secret: DATABASE_URL"),
        (CONFIG, "GRACE_SECONDS=20", "LOG_LEVEL=postgresql://me:pass@host/", "shows a secret"),
        # isolation
        (CLOCK, "runAsNonRoot: true", "runAsNonRoot: false", "has securityContext"),
        (CLOCK, "runAsUser: 10001", "runAsUser: 0", "has securityContext"),
        (CLOCK, "type: RuntimeDefault", "type: Unconfined", "has securityContext"),
        (CLOCK, "allowPrivilegeEscalation: false", "privileged: true", "has securityContext"),
        (CLOCK, "drop: [ALL]", "add: [SYS_ADMIN]", "has securityContext"),
        (CLOCK, "            readOnlyRootFilesystem: true\n", "", "has securityContext"),
        (CLOCK, "      enableServiceLinks: false\n", "", "has enableServiceLinks"),
        (CLOCK, "automountServiceAccountToken: false", "hostNetwork: true", "shares the host's"),
        (ACCOUNT, "automountServiceAccountToken: false", "secrets: []", "gives its token away"),
        (
            CLOCK,
            "emptyDir:\n            sizeLimit: 64Mi",
            "hostPath:\n            path: /tmp",
            "without a limit",
        ),
        (CLOCK, "mountPath: /tmp", "mountPath: /app", "can write elsewhere"),
        (CLOCK, "limits: {memory", "limits: {cpu: 1, memory", "is limited in"),
        (CLOCK, "limits: {memory: 256Mi, ", "limits: {", "is limited in"),
        (CLOCK, "limits: {memory: 256Mi", "limits: {memory: 1Gi", "did not ask for"),
        # network
        (HUB, "  - networkpolicy.yaml\n", "", "open to the network"),
        (NETWORK, "[Ingress, Egress]", "[Egress]", "open to the network"),
        (NETWORK, "  egress:\n", "  egress:\n    - {}\n", "talk to everybody"),
        # rollouts
        (WEB, "maxUnavailable: 0", "maxUnavailable: 1", "gap in each rollout"),
        (WEB, "minReplicas: 2", "minReplicas: 1", "gap in each rollout"),
        (WORKER, "replicas: 2", "replicas: 1", "gap in each rollout"),
        (
            WORKER,
            "Allow\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: worker",
            "Allow\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: drudge",
            "lose all its pods at once",
        ),
        (WEB, "  maxUnavailable: 1", "  maxUnavailable: 0", "blocks the maintenance"),
        (CLOCK, "replicas: 1", "replicas: 2", "there twice"),
        (CLOCK, "type: Recreate", "type: RollingUpdate", "there twice"),
        (WORKER, "  minReadySeconds: 5\n", "", "rollout that fails"),
        (RELEASE, "  activeDeadlineSeconds: 600\n", "", "run for ever"),
        # scaling
        (
            WEB,
            "    kind: Deployment\n    name: web",
            "    kind: Deployment\n    name: api",
            "scales api",
        ),
        (WEB, "  strategy:", "  replicas: 2\n  strategy:", "both say how many"),
        (WEB, "maxReplicas: 10", "maxReplicas: 2", "scales nothing"),
        # labels
        (
            HUB,
            "      app.kubernetes.io/version: unreleased",
            "      version: unreleased",
            "without",
        ),
        (
            WEB,
            "  name: web\n  labels:\n    app.kubernetes.io/component: web\nspec:\n  type",
            "  name: web\nspec:\n  type",
            "of the component None",
        ),
        (
            ACCOUNT,
            "  name: service\n",
            "  name: service\n  labels: {app.kubernetes.io/component: web}\n",
            "of the component web",
        ),
        (
            WORKER,
            "  labels:\n    app.kubernetes.io/component: worker\nspec:\n  maxUnavailable",
            "  labels:\n    app.kubernetes.io/component: work\nspec:\n  maxUnavailable",
            "no process type: work",
        ),
    ],
    overlays: [
        (PRODUCTION, "minReplicas, value: 3}", "minReplicas, value: 1}", "gap in each rollout"),
        (
            PRODUCTION,
            "/spec/replicas, value: 3}",
            "/spec/replicas, value: 1}",
            "gap in each rollout",
        ),
        (PRODUCTION, "maxReplicas, value: 20}", "maxReplicas, value: 3}", "scales nothing"),
        (
            PRODUCTION,
            "  - target: {kind: Deployment, annotationSelector: replicas=overlay}",
            "  - target: {kind: Deployment}",
            "there twice",
        ),
        (
            PRODUCTION,
            "path: /spec/replicas,",
            "path: /spec/minReadySeconds,",
            "'minReadySeconds') is 5 here, 3 there",
        ),
        (
            PRODUCTION,
            "namespace: invoiceflow-production\n",
            "namePrefix: live-\nnamespace: invoiceflow-production\n",
            "is invoiceflow-web here, live-invoiceflow-web there",
        ),
        (
            PRODUCTION,
            "components: []",
            "configMapGenerator: [{name: config, behavior: merge, literals: [LOG_LEVEL=DEBUG]}]",
            "'LOG_LEVEL') is None here",
        ),
        (PRODUCTION, "namespace: invoiceflow-production\n", "", "is not in the namespace"),
        (
            f"{OVERLAYS}/staging/namespace.yaml",
            "io/enforce: restricted",
            "io/enforce: baseline",
            "lets in more",
        ),
    ],
}


@shown(FAULTS)
def test_a_fault_is_noticed(
    generate: Generate, tmp_path: Path, check: Callable[[Path], str], fault: Fault
) -> None:
    whole = generate(**MADE_WITH.get(fault[0], {})).path
    assert fault[3] in complained(check, fault, copytree(whole, tmp_path / "copy"))
