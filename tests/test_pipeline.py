"""The pipelines are run, by runners on this machine, up to production and back."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copytree
from typing import Any, ClassVar

import pytest
import yaml
from conftest import gitlab_ci_local, tool
from delivering import Checkout
from render import ROOT, Generate

IMAGE = "ghcr.io/example/invoiceflow"
DIGESTS = [f"sha256:{digit * 64}" for digit in "ab"]
# What actions do on GitHub, as far as others need it; a job begins on a machine of its own.
ACTIONS = {
    "actions/checkout": """rm -rf ~/.local; git clone --quiet --depth=1 "file://$ORIGIN" .
        git remote set-url origin "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY\"""",
    "actions/upload-artifact": """from=${path%%\\**}; cd "$(eval echo "$from")"
        set -- ./${path#"$from"}; [ -e "$1" ] || exit 0
        mkdir -p "$ARTIFACTS/$name"; cp -R --parents "$@" "$ARTIFACTS/$name\"""",
    "actions/download-artifact": 'mkdir -p "$path"; cp -R "$ARTIFACTS/$name/." "$path"',
}


@dataclass
class Project:
    """A repository, a registry and a cluster for each environment."""

    checkout: Checkout
    clusters: Path
    url: str = ""

    kind: ClassVar[str]
    pipeline: ClassVar[str]
    environment: ClassVar[str]  # of a job, for the shell

    @property
    def told(self) -> Path:
        """What the container engine was told."""
        return self.checkout.home / "told"

    def commit(self, digest: str) -> None:
        """One more commit; its image will have this digest."""
        self.checkout.git("commit", "--quiet", "--allow-empty", "--message", "Go on")
        digests = f"*.RepoDigests*) echo {IMAGE}@{digest} ;;"
        label = f"*index*.Config.Labels*) echo {self.checkout.git('rev-parse', 'HEAD')} ;;"
        told = shlex.quote(str(self.told))
        service = """*-dind) echo '[{"Config": {}}]' ;;"""  # which the runner starts for a job
        answers = f"login*) cat >/dev/null ;; {digests} {label} {service}"
        self.program("docker", f'echo "$*" >>{told}; case "$*" in {answers} esac')
        # Each environment has a cluster of its own, which only its jobs reach.
        clusters = f'{shlex.quote(str(self.clusters))}/"{self.environment}"'
        words = shlex.join([sys.executable, str(ROOT / "tests/cluster.py")])
        self.program("kubectl", f'exec {words} {clusters} {tool("kubectl")} "$@"')

    def program(self, name: str, line: str) -> None:
        file = self.checkout.programs / name
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(0o755)

    def deliver(self) -> None:
        """Run what follows a merge of this commit, production included."""
        raise NotImplementedError

    def roll_back(self) -> None:
        """Run the former release in production again."""
        raise NotImplementedError

    def runner(self, *command: str) -> None:
        path = os.pathsep.join([str(self.checkout.programs), os.environ["PATH"]])
        home = str(self.checkout.home)
        done = subprocess.run(
            command,
            cwd=self.checkout.root,
            env={"PATH": path, "HOME": home, "TMPDIR": str(self.clusters.parent)},
            capture_output=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def runs(self, environment: str) -> str:
        """The image of the web process there."""
        file = (
            self.clusters
            / f"{environment}/invoiceflow-{environment}/deployment/invoiceflow-web.json"
        )
        [container] = json.loads(file.read_text())["spec"]["template"]["spec"]["containers"]
        image: str = container["image"]
        return image


class GitLab(Project):
    kind = "gitlab"
    pipeline = ".gitlab-ci.yml"
    environment = "$CI_ENVIRONMENT_NAME"

    def deliver(self) -> None:
        self.run("build", "release-staging", "run-staging")
        self.run("release-production", "--manual=release-production")  # somebody says so
        self.run("run-production")

    def roll_back(self) -> None:
        self.run("rollback")

    def run(self, *jobs: str) -> None:
        """Run these jobs of the pipeline of this commit, as the protected branch does."""
        self.program("apk", "exit 0")  # what it would install is here
        variables = {
            "DELIVERY": "on",
            "DELIVERY_SECONDS": "10",
            "DELIVERY_URL": self.url,
            "CONFIG": str(self.checkout.home / "given.env"),
        }
        given = [f"--variable={name}={value}" for name, value in variables.items()]
        how = [
            "--force-shell-executor",
            "--shell-isolation",
            "--no-artifacts-to-source",
            "--no-color",
            "--state-dir=../home/state",  # outside of the repository
        ]
        self.runner(*gitlab_ci_local(), *how, *given, *jobs)


class GitHub(Project):
    kind = "github"
    pipeline = ".github/workflows/deliver.yml"
    environment = "${ENVIRONMENT:-${GITHUB_JOB##*-}}"

    @property
    def actions(self) -> list[dict[str, Any]]:
        """What the other actions were given."""
        lines = (self.checkout.home / "actions").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def deliver(self) -> None:
        self.run("push", self.pipeline)

    def roll_back(self) -> None:
        self.run(
            "workflow_dispatch", "--input=environment=production", ".github/workflows/rollback.yml"
        )

    def run(self, event: str, *words: str) -> None:
        """Run the workflow of this file, as this event does."""
        self.program("gh", f'echo "gh $*" >>{shlex.quote(str(self.told))}')
        self.program("uv", "exit 0")  # it would list the packages
        home = self.checkout.home
        given = [
            *("--var=DELIVERY=on", f"--var=PUBLIC_URL={self.url}"),
            *(
                f"--secret=SECRETS={(home / 'given.env').read_text()}",
                "--secret=KUBECONFIG=of a test",
            ),
            *(f"--env=ORIGIN={self.checkout.root}", f"--env=ARTIFACTS={home}/artifacts"),
            *(f"--env=ACTIONS={home}/actions", "--env=DELIVERY_SECONDS=10"),
        ]
        *more, file = words
        how = ["--platform=ubuntu-24.04=-self-hosted", "--no-skip-checkout", "--no-cache-server"]
        stubs = [f"--local-repository={one}" for one in self.stubs(file)]
        self.runner(tool("act"), event, *how, *stubs, *given, *more, f"--workflows={file}")

    def stubs(self, file: str) -> Iterator[str]:
        """A stand-in for each action that this workflow uses, as act wants to hear of it."""
        jobs = yaml.safe_load((self.checkout.root / file).read_text())["jobs"].values()
        steps = [step for job in jobs for step in job["steps"] if "uses" in step]
        for uses in {step["uses"] for step in steps}:
            names = {
                name for step in steps if step["uses"] == uses for name in step.get("with", {})
            }
            given = {name: f"${{{{ inputs.{name} }}}}" for name in names}
            noted = {"note": "${{ toJSON(inputs) }}"}
            does = ACTIONS.get(
                uses.partition("@")[0],
                """echo "$note" | tr -d '\\n' >>"$ACTIONS"; echo >>"$ACTIONS\"""",
            )
            step = {"shell": "bash", "env": given | noted, "run": does}
            made = {
                "name": uses,
                "inputs": {name: {"description": name} for name in names},
                "runs": {"using": "composite", "steps": [step]},
            }
            folder = self.checkout.home / "stubs" / uses
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "action.yml").write_text(yaml.safe_dump(made))
            yield f"{uses}={folder}"


@pytest.fixture
def project(
    generate: Generate, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Project]:
    kind: type[Project] = request.param
    root = copytree(generate(ci=kind.kind).path, tmp_path / "service")
    (root / "uv.lock").write_text("version = 1\n")  # complete
    for verb in ("setup", "ci", "conformance"):  # each has tests of its own
        (root / "bin" / verb).write_text("#!/bin/sh\n")
    checkout = Checkout(root, tmp_path / "programs", tmp_path / "home")
    checkout.programs.mkdir()
    checkout.home.mkdir()
    checkout.git("init", "--quiet", "--initial-branch=main")
    checkout.git("remote", "add", "origin", f"git@{kind.kind}.com:example/invoiceflow.git")
    checkout.git("add", ".")
    checkout.git("commit", "--quiet", "--message", "Begin")
    checkout.config(WEBHOOK_SECRET="whsec_of_the_test")  # noqa: S106
    made = kind(checkout, tmp_path / "clusters")

    class Service(BaseHTTPRequestHandler):
        """Who answers there: the release that was rolled out last."""

        def do_GET(self) -> None:
            known = self.path in ("/livez", "/readyz", "/version")
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("X-Request-ID", self.headers.get("X-Request-ID", ""))
            self.end_headers()
            latest = max(made.clusters.glob("*/*/deployment/*-web.json"), key=os.path.getmtime)
            text = latest.read_text()
            release = json.loads(text)["spec"]["template"]["metadata"]["labels"]
            self.wfile.write(json.dumps({"release": release["app.kubernetes.io/version"]}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@pytest.mark.parametrize("project", [GitLab, GitHub], indirect=True)
def test_what_is_merged_is_built_once_and_promoted_and_can_go_back(project: Project) -> None:
    for digest in DIGESTS:
        project.commit(digest)
        project.deliver()
        assert project.runs("staging") == f"{IMAGE}@{digest}"
        assert project.runs("production") == f"{IMAGE}@{digest}"
    told = project.told.read_text()
    assert re.findall(r"^build |^push ", told, re.M) == ["build ", "push "] * 2
    if isinstance(project, GitHub):
        attested = [one for one in project.actions if "subject-digest" in one]
        assert [one["subject-digest"] for one in attested] == sorted(DIGESTS * 2)
        for digest in DIGESTS:
            assert told.count(f"gh attestation verify oci://{IMAGE}@{digest} ") == 2
    project.roll_back()
    assert project.runs("production") == f"{IMAGE}@{DIGESTS[0]}"
    assert project.runs("staging") == f"{IMAGE}@{DIGESTS[1]}"


@pytest.mark.parametrize(
    ("project", "whole", "broken", "said"),
    [
        (GitLab, "    reports: {dotenv: build.env}", "    paths: [build.env]", "No image is named"),
        (GitLab, 'bin/deploy "$STAGING_RELEASE"', 'bin/deploy "$RELEASE"', "There is no release"),
        (GitLab, "    paths: [staging-records]\n", "", "staging-records"),
        (
            GitLab,
            '    - cp -R staging-records "$DELIVERY_HOME/staging/records"\n',
            "",
            "has no release of",
        ),
        (GitHub, 'echo "image=$image"', 'echo "image=${image%@*}"', "may mean another"),
        (GitHub, "needs.release-staging.outputs", "needs.build.outputs", "There is no release"),
        (
            GitHub,
            "          path: ~/.local/state/*/staging",
            "          path: ~/*/staging",
            "cannot stat .*artifacts/staging-records",
        ),
        (
            GitHub,
            "      - run: mkdir -p ~/.local/state && cp -Rn",
            "      - run: echo",
            "has no release of",
        ),
    ],
    indirect=["project"],
)
def test_a_pipeline_that_hands_something_on_wrongly_fails(
    project: Project, whole: str, broken: str, said: str
) -> None:
    file = project.checkout.root / project.pipeline
    text = file.read_text()
    assert text.count(whole) == 1
    file.write_text(text.replace(whole, broken))
    project.checkout.git("commit", "--quiet", "--all", "--message", "Break it")
    project.commit(DIGESTS[0])
    with pytest.raises(AssertionError, match=said):
        project.deliver()
