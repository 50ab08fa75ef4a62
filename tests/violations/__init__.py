"""Violations of the factors, and the judge that lets the kit find them: `bin/violations`."""

from . import (
    admin,
    backing,
    build,
    codebase,
    concurrency,
    config,
    dependencies,
    disposability,
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
