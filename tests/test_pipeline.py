"""The pipeline of GitLab is run, by a runner on this machine, up to production and back."""

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
from typing import Any

import pytest
from conftest import gitlab_ci_local, tool
from delivering import Checkout
from render import ROOT, Generate

IMAGE = "ghcr.io/example/invoiceflow"
DIGESTS = [f"sha256:{digit * 64}" for digit in "ab"]
PIPELINE = ".gitlab-ci.yml"


@dataclass
class Project:
    """A repository on GitLab, a registry and a cluster."""

    checkout: Checkout
    clusters: Path
    url: str = ""

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
        clusters = f'{shlex.quote(str(self.clusters))}/"$CI_ENVIRONMENT_NAME"'
        words = shlex.join([sys.executable, str(ROOT / "tests/cluster.py")])
        self.program("kubectl", f'exec {words} {clusters} {tool("kubectl")} "$@"')
        self.program("apk", "exit 0")  # what it would install is here

    def program(self, name: str, line: str) -> None:
        file = self.checkout.programs / name
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(0o755)

    def run(self, *jobs: str) -> None:
        """Run these jobs of the pipeline of this commit, as the protected branch does."""
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
        path = os.pathsep.join([str(self.checkout.programs), os.environ["PATH"]])
        done = subprocess.run(
            [*gitlab_ci_local(), *how, *given, *jobs],
            cwd=self.checkout.root,
            env={
                "PATH": path,
                "HOME": str(self.checkout.home),
                "TMPDIR": str(self.clusters.parent),
            },
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


@pytest.fixture
def project(generate: Generate, tmp_path: Path) -> Iterator[Project]:
    root = copytree(generate(ci="gitlab").path, tmp_path / "service")
    (root / "uv.lock").write_text("version = 1\n")  # complete
    checkout = Checkout(root, tmp_path / "programs", tmp_path / "home")
    checkout.programs.mkdir()
    checkout.home.mkdir()
    checkout.git("init", "--quiet", "--initial-branch=main")
    checkout.git("remote", "add", "origin", "git@gitlab.example:example/invoiceflow.git")
    checkout.git("add", ".")
    checkout.git("commit", "--quiet", "--message", "Begin")
    checkout.config(WEBHOOK_SECRET="whsec_of_the_test")  # noqa: S106
    made = Project(checkout, tmp_path / "clusters")

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


def test_what_is_merged_is_built_once_and_promoted_and_can_go_back(project: Project) -> None:
    for digest in DIGESTS:
        project.commit(digest)
        project.run("build", "release-staging", "run-staging")
        assert project.runs("staging") == f"{IMAGE}@{digest}"
        project.run("release-production")  # somebody says so
        project.run("run-production")
        assert project.runs("production") == f"{IMAGE}@{digest}"
    assert re.findall(r"^build |^push ", project.told.read_text(), re.M) == ["build ", "push "] * 2
    project.run("rollback")
    assert project.runs("production") == f"{IMAGE}@{DIGESTS[0]}"
    assert project.runs("staging") == f"{IMAGE}@{DIGESTS[1]}"


@pytest.mark.parametrize(
    ("whole", "broken", "said"),
    [
        ("    reports: {dotenv: build.env}", "    paths: [build.env]", "may mean another image"),
        ('bin/deploy "$STAGING_RELEASE"', 'bin/deploy "$RELEASE"', "There is no release"),
        ("    paths: [staging-records]\n", "", "staging-records"),
        ('    - cp -R staging-records "$DELIVERY_HOME/staging/records"\n', "", "has no release of"),
    ],
)
def test_a_pipeline_that_hands_something_on_wrongly_fails(
    project: Project, whole: str, broken: str, said: str
) -> None:
    file = project.checkout.root / PIPELINE
    text = file.read_text()
    assert text.count(whole) == 1
    file.write_text(text.replace(whole, broken))
    project.checkout.git("commit", "--quiet", "--all", "--message", "Break it")
    project.commit(DIGESTS[0])
    jobs = ["build", "release-staging", "run-staging", "release-production"]
    with pytest.raises(AssertionError, match=said):
        project.run(*jobs, "--manual=release-production")
