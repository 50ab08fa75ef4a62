"""Violations of the factors, and the judge that lets the kit find them: `bin/violations`."""

from dataclasses import replace

from . import (
    admin,
    backing,
    build,
    codebase,
    concurrency,
    config,
    dependencies,
    disposability,
    image,
    output,
    parity,
    ports,
    processes,
)
from .violation import Violation

FACTORS = {
    "I": codebase,
    "II": dependencies,
    "III": config,
    "IV": backing,
    "V": build,
    "VI": processes,
    "VII": ports,
    "VIII": concurrency,
    "IX": disposability,
    "X": parity,
    "XI": output,
    "XII": admin,
}
ALL: dict[str, Violation] = {
    one.name: one for factor in FACTORS.values() for one in factor.VIOLATIONS
}
IMAGE = {one.name: one for one in image.VIOLATIONS}
# Services of other flavors, and what is tried on them too: of each factor something.
FLAVORS: dict[str, tuple[dict[str, object], str]] = {
    "api": (
        {"flavor": "api", "ci": "gitlab"},
        "commit-const shell-out-if-there default-db outage-is-500 release-frozen number-in-ram"
        " port-fixed child-process hard-exit sqlite-dev print at-boot",
    ),
    "worker": (
        {"flavor": "worker", "services": ["redis"]},
        "worker-anonymous undeclared-import dotenv redis-hardcoded no-release-id worker-listens"
        " pid-file ignores-term memory-queue thread-print console-for-people",
    ),
}
ALL |= {
    f"{flavor}-{name}": replace(ALL[name], name=f"{flavor}-{name}", answers=answers)
    for flavor, (answers, names) in FLAVORS.items()
    for name in names.split()
}
ALL |= IMAGE
