"""Where an environment runs: on a cluster if it has an overlay there, else on this engine."""

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from .compose import Compose
from .ledger import Ledger, Record
from .project import ROOT, Refused

OVERLAYS = ROOT / "deploy/k8s/overlays"


class Target(Protocol):
    """What a deploy needs of a platform. Each step raises Failed when it does not come about.

    dry_run: print what would be done instead of doing it.
    """

    ledger: Ledger
    dry_run: bool

    def settings(self) -> dict[str, str]:
        """The variables that the platform has when no file is given."""

    def fixed(self) -> set[str]:
        """The variables that its manifests set by themselves."""

    def key(self) -> bytes:
        """The secret of the environment's hashes."""

    def manifest(self, given: dict[str, str]) -> str:
        """What is to run, without image, id and values: what the id's hash is over."""

    def rendered(self, release: str, image: str, given: dict[str, str]) -> str:
        """What is handed to the platform, but the values of variables."""

    def keep(self, record: Record, given: dict[str, str]) -> None:
        """Add the record to the ledger, and its values to where they are safe."""

    def migrate(self, record: Record) -> None:
        """Run the one-off `release` of this very release, to its end."""

    def start(self, record: Record) -> None:
        """Start its processes beside what runs, wait until they are ready, ask them."""

    def back(self, record: Record, former: Record | None) -> None:
        """Take these processes away, with the former release as it was."""

    def retire(self, record: Record) -> None:
        """Stop what is not of this release."""


def environments() -> list[str]:
    """Those that have an overlay."""
    return [path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml")]


def of(environment: str) -> Target:
    """The target of an environment. DELIVERY_TARGET decides where both would do."""
    overlay = (OVERLAYS / environment / "kustomization.yaml").exists()
    name = os.environ.get("DELIVERY_TARGET") or ("kubernetes" if overlay else "compose")
    if name == "compose":
        return Compose(environment)
    if name != "kubernetes" or not overlay or not find_spec("deploy.kubernetes"):
        raise Refused(
            f"{environment} cannot be reached by {name!r}: set DELIVERY_TARGET to compose, or to "
            f"kubernetes with manifests in deploy/k8s/overlays/{environment}."
        )
    cluster: Callable[[str], Target] = import_module("deploy.kubernetes").Kubernetes
    return cluster(environment)
