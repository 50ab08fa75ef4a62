"""A container engine that has the images which a service is built of: `bin/engine COMMAND...`.

An engine that answers is taken as it is. Else Docker is unpacked from Debian's packages beside the
system, started, and ended after the command. An image that no registry gives is made of Debian's
packages under its name: a stand-in, whose size and seconds are not those of the public one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from render import FEATURES, ROOT, locked

CACHE = ROOT / ".cache/engine"
# Debian 12 has an engine too, but no Compose v2; programs of the next one run on it as they are.
ENGINE = ("trixie", "docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd")
# The suite that has the Python and the PostgreSQL which the images are named after.
IMAGES = "forky"
START_SECONDS = 60
POSTGRES = """#!/bin/sh
set -eu
if [ "$(id -u)" = 0 ]; then
    install -d -o postgres "$PGDATA" /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if ! [ -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb --username="${POSTGRES_USER:=postgres}" --pwfile=/tmp/password
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    [ "${POSTGRES_DB:=$POSTGRES_USER}" = postgres ] ||
        echo "create database \\"$POSTGRES_DB\\"" | postgres --single -j postgres
fi
exec postgres -c listen_addresses='*' "$@"
"""


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Yields the environment for commands that use the engine; RuntimeError if none can be had."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        if not _answers(environment):
            environment = stack.enter_context(_started())
        for name in names():
            _provide(name, environment)
        yield environment


def names() -> list[str]:
    """The images that a service with PostgreSQL is built of and runs beside, as its files say."""
    built = re.findall(r"(?m)^FROM (\S+:\S+) AS", (ROOT / "template/Dockerfile.jinja").read_text())
    return [*built, FEATURES["postgres"]["attaches"]["image"]]


def structured(image: str) -> list[str]:
    """What container-structure-test finds wrong with an image of a service."""
    program = Path(sys.executable).with_name("container-structure-test")
    config = ROOT / "tests/structure.yaml"
    command = (program, "test", "--image", image, "--config", config, "--output", "json")
    done = subprocess.run(command, capture_output=True, text=True)
    results = json.loads(done.stdout)["Results"] if done.stdout else []
    wrong = [error for one in results if not one["Pass"] for error in one["Errors"]]
    if not results or bool(wrong) != bool(done.returncode):
        raise RuntimeError(f"{image} was not looked at: {done.stdout}{done.stderr}")
    return wrong


def _answers(environment: dict[str, str]) -> bool:
    if not shutil.which("docker", path=environment["PATH"]):
        return False
    asked = (("docker", "info"), ("docker", "compose", "version"), ("docker", "buildx", "version"))
    return not any(
        subprocess.run(it, env=environment, capture_output=True).returncode for it in asked
    )


@contextmanager
def _started() -> Iterator[dict[str, str]]:
    programs = CACHE / ENGINE[0]
    # A second engine would take the first one's containers.
    with locked(CACHE), TemporaryDirectory(prefix="engine-") as folder:
        if not programs.exists():
            _unpack(programs)
        socket = f"unix://{folder}/docker.sock"
        plugins = programs / "usr/libexec/docker/cli-plugins"
        (Path(folder) / "config.json").write_text(f'{{"cliPluginsExtraDirs": ["{plugins}"]}}')
        path = f"{programs}/usr/bin:{programs}/usr/sbin:{os.environ['PATH']}:/usr/sbin"
        environment = os.environ | {
            "PATH": path,
            "DOCKER_BUILDKIT": "1",
            "DOCKER_CONFIG": folder,
            "DOCKER_HOST": socket,
        }
        # Its mounts outlast it, so no temporary folder could be taken away.
        flags = ("--data-root", CACHE / "data", "--exec-root", "/run/engine-of-tests")
        log = CACHE / "dockerd.log"
        with log.open("w") as lines:
            engine = subprocess.Popen(
                ["dockerd", "--host", socket, "--pidfile", f"{folder}/pid", *map(str, flags)],
                env=environment,
                stderr=lines,
                stdout=lines,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(environment):
                if engine.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"No container engine starts here: {log.read_text()[-600:]}")
                time.sleep(0.1)
            yield environment
        finally:
            engine.terminate()
            engine.wait()


def _provide(name: str, environment: dict[str, str]) -> None:
    """Have an image: the one that is there, the public one, or a stand-in."""
    for command in (("image", "inspect"), ("pull", "--quiet")):
        if not subprocess.run(
            ("docker", *command, name), env=environment, capture_output=True
        ).returncode:
            return
    sys.stderr.write(f"== no registry has {name}: making one like it\n")
    repository, _, tag = name.rpartition(":")
    version = re.split(r"[.-]", tag)
    with TemporaryDirectory(prefix="image-") as place:
        folder, tar = Path(place), Path(place) / "image.tar"
        match repository.rpartition("/")[2]:
            case "uv":
                _run("tar", "-cf", tar, "-C", Path(sys.executable).parent, "uv")
                said = []
            case "python":
                python = f"python{version[0]}.{version[1]}"
                # As in the public image, Python's own modules are not compiled yet.
                plain = 'find "$1/usr/lib" -name __pycache__ -prune -exec rm -r {} +'
                _bootstrap(tar, python, hook=f'ln -s {python} "$1/usr/bin/python"; {plain}')
                said = ['CMD ["python"]']
            case "postgres":
                (folder / "start").write_text(POSTGRES)
                (folder / "start").chmod(0o755)
                # Its package would make a cluster at once.
                none = "mkdir -p $1/etc/postgresql-common && echo create_main_cluster=false "
                none += "> $1/etc/postgresql-common/createcluster.conf"
                start = f'cp {folder}/start "$1/usr/bin"'
                _bootstrap(tar, f"postgresql-{version[0]}", first=none, hook=start)
                said = [
                    "ENV LANG=C.UTF-8",
                    f"ENV PATH=/usr/lib/postgresql/{version[0]}/bin:/usr/bin:/usr/sbin",
                    f"ENV PGDATA=/var/lib/postgresql/{version[0]}/docker",
                    "VOLUME /var/lib/postgresql",
                    "STOPSIGNAL SIGINT",
                    'ENTRYPOINT ["start"]',
                ]
            case _:
                raise RuntimeError(f"{name} cannot be pulled, and nobody said what it is made of.")
        authorities = "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
        changes = [word for one in (*said, authorities) for word in ("--change", one)]
        _run("docker", "import", *changes, tar, name, env=environment)


def _bootstrap(tar: Path, package: str, hook: str, first: str = "true") -> None:
    """A small Debian with a package, and with the authorities that this machine trusts."""
    trusted = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    _run(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
        *(f"--include={package}", "--dpkgopt=force-unsafe-io"),
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--essential-hook={first}",
        f'--customize-hook=mkdir -p "$1/etc/ssl/certs" && cp {trusted} "$1/etc/ssl/certs/"',
        f"--customize-hook={hook}",
        *("--format=tar", IMAGES, tar, _mirror()),
    )


def _unpack(programs: Path) -> None:
    """Another suite's packages, beside the system; nothing is installed and apt stays as it is."""
    suite, *packages = ENGINE
    with TemporaryDirectory(prefix="apt-") as place:
        folder = Path(place)
        for name in ("lists/partial", "archives/partial", "programs"):
            (folder / name).mkdir(parents=True)
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (folder / "sources.list").write_text(f"deb [signed-by={key}] {_mirror()} {suite} main\n")
        options = {
            "APT::Sandbox::User": "root",
            "Dir::Cache": folder,
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": folder / "lists",
        }
        apt = ("apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items()))
        _run(*apt, "update")
        _run(*apt, "download", *packages, cwd=folder)
        for package in folder.glob("*.deb"):
            _run("dpkg", "-x", package, folder / "programs")
        programs.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "programs", programs)


def _mirror() -> str:
    """Where this machine has its Debian packages from."""
    form = ("--format", "$(SITE)", "Created-By: Packages", "Component: main")
    said = subprocess.check_output(("apt-get", "indextargets", *form), text=True)
    found = [line for line in said.splitlines() if line.rstrip("/").endswith("/debian")]
    if not found:
        raise RuntimeError(
            "No container engine answers: install Docker with Compose, or use Debian."
        )
    return found[0]


def _run(*command: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {(done.stderr or done.stdout)[-600:]}")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("Name a command that needs a container engine: bin/engine COMMAND...")
    try:
        with running() as variables:
            sys.exit(subprocess.run(sys.argv[1:], env=variables).returncode)
    except RuntimeError as error:
        sys.exit(str(error))
