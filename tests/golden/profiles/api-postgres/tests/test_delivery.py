"""The verbs of bin/ on a repository of their own, with an engine that notes what it is told."""

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.delivering import DIGEST, IMAGE, OTHER, SECRET, Checkout, Web, make, runs

OTHERS = "ps --all --filter=label=delivery.environment="
CONTAINERS = "ps --all --filter=label=com.docker.compose.project="


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make(tmp_path)


@pytest.fixture
def web(checkout: Checkout) -> Iterator[Web]:
    """A web process that says it is whichever release `runs` names."""
    with Web() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        checkout.answers.append(("*port --index=? web*", 0, server.address))
        checkout.answers.append((f"{CONTAINERS}*", 0, "web-1: Up 2 seconds (healthy)\n"))
        yield server
        server.shutdown()
        thread.join()


# ---- build


def test_a_build_is_of_the_commit_and_named_by_it(checkout: Checkout) -> None:
    (checkout.root / "src/shop/private.key").write_text("what git ignores")
    digests = f"elsewhere.example/shop@{DIGEST}\n{IMAGE}\n"
    checkout.answers = [("*RepoDigests*", 0, digests)]

    assert checkout.answer("build", "--push") == IMAGE
    commit = checkout.git("rev-parse", "HEAD")
    [build] = checkout.told("^build ")
    assert f"--build-arg REVISION={commit} " in build
    assert f"--tag registry.example/shop:{commit[:7]} " in build
    assert not build.endswith(str(checkout.root))  # a copy of the commit, without the key
    assert checkout.told("^push ") == [f"push registry.example/shop:{commit[:7]}"]
    assert "latest" not in str(checkout.told(""))


def test_a_build_that_is_not_pushed_is_named_by_its_id(checkout: Checkout) -> None:
    checkout.answers = [("*{{.Id}}*", 0, f"{DIGEST}\n")]

    done = checkout.run("build")
    assert done.stdout == f"{DIGEST}\n"
    assert "only this engine can run it" in done.stderr
    assert not checkout.told("^push")


def test_only_a_commit_is_built(checkout: Checkout) -> None:
    (checkout.root / "src/shop/new.py").write_text("\n")
    assert "commit or stash src/shop/new.py first" in checkout.refusal("build")
    shutil.rmtree(checkout.root / ".git")
    assert "git init" in checkout.refusal("build")
    assert not checkout.calls()


def test_a_lock_without_files_is_not_built(checkout: Checkout) -> None:
    (checkout.root / "uv.lock").write_text('source = { registry = "." }\n')
    checkout.git("commit", "--all", "--quiet", "--message", "Seed")
    assert "bin/setup" in checkout.refusal("build")
    assert not checkout.calls()


def test_a_build_that_fails_has_no_name(checkout: Checkout) -> None:
    checkout.answers = [("build*", 1, "")]
    assert "ended with 1" in checkout.refusal("build")


# ---- release


def test_the_same_build_and_configuration_are_the_same_release(checkout: Checkout) -> None:
    first = checkout.release()
    assert re.fullmatch("shop-[0-9a-f]{7}-[0-9a-f]{6}", first)
    assert first.split("-")[1] == checkout.git("rev-parse", "HEAD")[:7]
    text = (checkout.home / "staging/records" / f"{first}.json").read_text()

    assert checkout.release() == first
    others = [checkout.release(LOG_LEVEL=level) for level in ("DEBUG", "INFO")]
    assert len({first, *others, checkout.release("testing")}) == 4
    assert (checkout.home / "staging/records" / f"{first}.json").read_text() == text


def test_no_value_stands_in_a_record(checkout: Checkout) -> None:
    release = checkout.release(LOG_LEVEL="WARNING")
    assert checkout.record(release)["settings"] == ["DATABASE_URL", "LOG_LEVEL"]
    private = set()
    for file in checkout.home.glob("staging/**/*"):
        if file.is_file() and re.search("correct-horse|WARNING", file.read_text()):
            private.add((file.parent.name, file.stat().st_mode & 0o777))
    assert private == {("config", 0o600)}


def test_without_the_key_an_id_does_not_betray_a_value(checkout: Checkout) -> None:
    """Two environments of the same name, build and configuration have different ids."""
    first = checkout.release()
    assert (checkout.home / "staging/key").stat().st_mode & 0o777 == 0o600
    checkout.environment["DELIVERY_HOME"] = str(checkout.home / "another")
    assert checkout.release() != first


def test_a_record_never_changes(checkout: Checkout) -> None:
    release = checkout.release()
    before = checkout.record(release)
    said = checkout.refusal("release", "staging", OTHER, "--config", checkout.config())
    assert f"{release} is there already" in said
    assert checkout.record(release) == before


@pytest.mark.parametrize(
    "image", ["shop:latest", "registry.example/shop", "registry.example/shop:1a2b3c4", IMAGE[:-1]]
)
def test_an_image_that_may_change_is_refused(checkout: Checkout, image: str) -> None:
    said = checkout.refusal("release", "staging", image, "--config", checkout.config())
    assert "may mean another image tomorrow" in said
    assert not list(checkout.home.glob("staging/records/*"))


def test_a_build_that_printed_nothing_is_no_image(checkout: Checkout) -> None:
    said = checkout.refusal("release", "staging", "", "--config", checkout.config())
    assert "No image is named: release IMAGE@sha256:DIGEST" in said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("LOG_LEVEL=INFO\n", "does not set DATABASE_URL"),
        ("DATABASE_URL=\n", "does not set DATABASE_URL"),
        (f"DATABASE_URL={SECRET}\nLOGLEVEL=INFO\n", "nothing reads: LOGLEVEL"),
        (f"DATABASE_URL={SECRET}\nDATABASE_URL=x\n", "sets DATABASE_URL twice"),
        (f"export DATABASE_URL={SECRET}\n", "line 1 is not NAME=value"),
        (f"DATABASE_URL={SECRET}\nGRACE_SECONDS=long\n", "numbers of seconds"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_name(
    checkout: Checkout, text: str, complaint: str
) -> None:
    file = checkout.config()
    file.write_text(text)
    said = checkout.refusal("release", "staging", IMAGE, "--config", file)
    assert complaint in said
    assert "correct-horse" not in said


def test_a_configuration_in_the_repository_is_refused(checkout: Checkout) -> None:
    inside = shutil.copy(checkout.config(), checkout.root / "staging.env")
    assert "outside" in checkout.refusal("release", "staging", IMAGE, "--config", inside)


def test_values_are_never_kept_in_the_repository(checkout: Checkout) -> None:
    checkout.environment["DELIVERY_HOME"] = str(checkout.root / "state")
    said = checkout.refusal("release", "staging", IMAGE, "--config", checkout.config())
    assert "outside of the repository" in said
    assert not (checkout.root / "state").exists()


def test_what_the_deploy_sets_makes_no_other_release(checkout: Checkout) -> None:
    assert checkout.release() == checkout.release(PORT="9000", RELEASE_ID="mine")


def test_production_takes_what_staging_has_had(checkout: Checkout) -> None:
    checkout.release()
    said = checkout.refusal("release", "production", OTHER, "--config", checkout.config())
    assert "release it there first" in said
    assert checkout.release("production").startswith("shop-")
    words = ("production", OTHER, "--config", checkout.config(LOG_LEVEL="DEBUG"))
    assert checkout.answer("release", *words, "--without-staging").startswith("shop-")


def test_an_image_that_does_not_name_its_commit_is_refused(checkout: Checkout) -> None:
    checkout.answers = [("*index .Config.Labels*", 0, "unknown\n")]
    said = checkout.refusal("release", "staging", IMAGE, "--config", checkout.config())
    assert "use bin/build" in said


def test_an_image_that_cannot_be_seen_is_this_commit_s(checkout: Checkout) -> None:
    checkout.answers = [("image inspect*", 1, ""), ("pull*", 1, "")]
    assert checkout.git("rev-parse", "HEAD")[:7] in checkout.release()
    (checkout.root / "new").write_text("\n")
    said = checkout.refusal("release", "staging", IMAGE, "--config", checkout.config())
    assert "commit or stash new first" in said


# ---- run


def test_a_deploy_migrates_then_starts_then_asks_then_stops_what_ran(
    checkout: Checkout, web: Web
) -> None:
    first = runs(web, checkout.release())
    checkout.answer("deploy", first)
    second = runs(web, checkout.release(LOG_LEVEL="DEBUG"))
    (checkout.programs / "calls").unlink()
    checkout.answers.append((f"{OTHERS}*", 0, f"{first}\n{second}\n"))
    checkout.answer("deploy", second)

    own = f"compose --project-name {second} --file -"
    who = "ps --all --filter=label=delivery.environment=shop/staging "
    form = '--format={{.Label "com.docker.compose.project"}}'
    assert [words.replace(own, "OWN") for words in checkout.told("")] == [
        "OWN run --rm --no-deps -T release",
        "OWN up --detach --no-build --quiet-pull web worker",
        f"{CONTAINERS}{second} --format={{{{.Names}}}}: {{{{.Status}}}}",
        "OWN port --index=1 web 8000",
        "OWN port --index=2 web 8000",
        f"{who}--filter=label=com.docker.compose.service=clock {form}",
        f"compose --project-name {first} stop clock",
        "OWN up --detach --no-build --quiet-pull clock",
        f"{CONTAINERS}{second} --format={{{{.Names}}}}: {{{{.Status}}}}",
        f"{who}{form}",
        f"compose --project-name {first} down",
    ]
    assert web.methods == {"GET"}


def test_compose_gets_values_by_its_environment_alone(checkout: Checkout, web: Web) -> None:
    release = runs(web, checkout.release(LOG_LEVEL="a $b 'c'"))
    checkout.answer("deploy", release)
    for call in checkout.calls():
        assert SECRET not in call["words"] + call["given"]
    [up, _] = [call for call in checkout.calls() if " up " in call["words"]]
    wanted = {"DATABASE_URL": SECRET, "LOG_LEVEL": "a $b 'c'", "RELEASE_ID": release}
    assert (wanted | {"IMAGE": IMAGE}).items() <= up["env"].items()
    services = json.loads(up["given"])["services"]
    assert services.keys() == {"clock", "release", "web", "worker"}
    assert services["web"]["stop_grace_period"] == "35s"
    assert services["worker"]["stop_grace_period"] == "30s"


def test_a_failing_migration_leaves_the_former_release_serving(
    checkout: Checkout, web: Web
) -> None:
    first = runs(web, checkout.release())
    checkout.answer("deploy", first)
    second = checkout.release(LOG_LEVEL="DEBUG")
    checkout.answers.insert(0, (f"*{second}* run *", 1, ""))

    assert f"so {first} goes on" in checkout.refusal("deploy", second)
    assert not checkout.told(f"{second} .* up ")
    assert len(checkout.told(f"{second} .* down")) == 1
    checkout.answers.insert(0, (f"*{first}* run *", 1, ""))
    assert f"so {first} goes on" in checkout.refusal("deploy", first)
    assert not checkout.told(f"{first} .*(down|stop)")
    assert "current" in checkout.answer("rollback", "staging", "--list")


@pytest.mark.parametrize("fault", ["not ready", "cancelled", "another release"])
def test_a_release_that_does_not_come_up_makes_way_for_the_former_one(
    checkout: Checkout, web: Web, fault: str
) -> None:
    first = runs(web, checkout.release())
    checkout.answer("deploy", first)
    second = checkout.release(LOG_LEVEL="DEBUG")
    checkout.environment["DELIVERY_SECONDS"] = "1"
    if fault != "another release":
        runs(web, second)
    if fault == "not ready":
        said = "web-1: Up (healthy)\nworker-1: Up (health: starting)\n"
        checkout.answers.insert(0, (f"{CONTAINERS}{second} *", 0, said))
    elif fault == "cancelled":
        checkout.answers.insert(0, (f"*{second}* up *", -signal.SIGTERM, ""))
    (checkout.programs / "calls").unlink()

    assert f"so {first} goes on" in checkout.refusal("deploy", second)
    assert len(checkout.told(f"{second}.* down")) == 1
    assert checkout.told(" up ")[-1].startswith(f"compose --project-name {first} ")
    assert not checkout.told(f"{first}.* (down|stop)")
    assert first in checkout.answer("rollback", "staging", "--list")


def test_a_rollback_runs_the_one_before_and_never_migrates(checkout: Checkout, web: Web) -> None:
    first, second = checkout.release(), checkout.release(LOG_LEVEL="DEBUG")
    for release in (first, second):
        checkout.answer("deploy", runs(web, release))
    (checkout.programs / "calls").unlink()
    runs(web, first)

    said = checkout.answer("rollback", "staging")
    assert re.fullmatch(rf"staging runs {first} again, after \d+\.\d s", said)
    assert not checkout.told(" run ")
    [up, _] = [call for call in checkout.calls() if " up " in call["words"]]
    assert "LOG_LEVEL" not in up["env"]
    listed = checkout.run("rollback", "staging", "--list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == [first, second]
    assert [line.endswith("current") for line in listed] == [True, False]


def test_a_rollback_goes_only_where_the_environment_has_been(checkout: Checkout, web: Web) -> None:
    assert "no other release" in checkout.refusal("rollback", "staging")
    first, never = runs(web, checkout.release()), checkout.release(LOG_LEVEL="DEBUG")
    checkout.answer("deploy", first)
    assert "no other release" in checkout.refusal("rollback", "staging")
    assert "has not run in staging" in checkout.refusal("rollback", "staging", never)


@pytest.mark.parametrize("verb", ["deploy", "rollback"])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    checkout: Checkout, web: Web, verb: str
) -> None:
    first, second = checkout.release(), checkout.release(LOG_LEVEL="DEBUG")
    for release in (first, second):
        checkout.answer("deploy", runs(web, release))
    (checkout.programs / "calls").unlink()
    history = (checkout.home / "staging/history").read_text()

    words = [second] if verb == "deploy" else ["staging"]
    done = checkout.run(verb, *words, "--dry-run")
    assert done.returncode == 0
    assert re.search(r"\$ docker compose .* up ", done.stderr)
    assert "correct-horse" not in done.stdout + done.stderr
    assert not checkout.told(" (run|up|down|stop)")
    assert (checkout.home / "staging/history").read_text() == history


def test_a_release_that_nobody_made_is_not_run(checkout: Checkout) -> None:
    assert "bin/release makes one" in checkout.refusal("deploy", "shop-1234567-abcdef")


def test_the_number_of_a_process_is_the_environment_s(checkout: Checkout) -> None:
    usual = checkout.release()
    checkout.environment["DELIVERY_REPLICAS"] = "web=3"
    release = checkout.release()
    assert release != usual
    manifest = json.loads(checkout.record(release)["manifest"])
    assert manifest["services"]["web"]["deploy"] == {"replicas": 3}
    checkout.environment["DELIVERY_REPLICAS"] = "clock=2"
    said = checkout.refusal("release", "staging", IMAGE, "--config", checkout.config())
    assert "clock cannot be chosen" in said


# ---- smoke


Break = Callable[[Web], object]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (lambda web: web.pages.pop("/livez"), "/livez answers 404"),
        (lambda web: web.pages.pop("/readyz"), "/readyz answers 404"),
        (lambda web: runs(web, "shop-1-1"), "/version says shop-1-1"),
        (lambda web: setattr(web, "kind", "text/html"), "an unknown page answers"),
    ],
)
def test_smoke_says_what_is_not_well(
    checkout: Checkout, web: Web, fault: Break, complaint: str
) -> None:
    release = runs(web, "shop-1234567-abcdef")
    url = f"http://{web.address}/"
    assert f"runs {release}" in checkout.answer("smoke", url, release)
    fault(web)
    checkout.environment["DELIVERY_SECONDS"] = "1"
    assert complaint in checkout.refusal("smoke", url, release)
