"""What became of the checks: their verdicts, and the worst of them for each factor."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .catalogue import FACTORS, Check

HELD, BENT, BROKEN, STALE = "held", "bent", "broken", "stale"
EXPIRED, UNHELD, NOT_RUN, NO_NEED = "expired", "unheld", "not run", "does not apply"

# From the worst to the best; what does not apply speaks for a factor only where it is alone.
VERDICTS = (BROKEN, UNHELD, EXPIRED, STALE, NOT_RUN, BENT, HELD, NO_NEED)
FINE = {HELD, BENT, NO_NEED}


def worst(verdicts: Iterable[str]) -> str:
    """The verdict on all of them; on nothing at all: not run."""
    return min(verdicts, key=VERDICTS.index, default=NOT_RUN)


@dataclass(frozen=True)
class Result:
    """A check and what it saw."""

    check: Check
    verdict: str
    evidence: str
    seconds: float


@dataclass(frozen=True)
class Row:
    """A factor and what its checks saw."""

    factor: str
    results: list[Result]

    @property
    def verdict(self) -> str:
        return worst(result.verdict for result in self.results)

    @property
    def evidence(self) -> str:
        """Of the checks that decide the verdict, what the one saw that looked longest."""
        decide = [one for one in self.results if one.verdict == self.verdict]
        return (
            max(decide, key=lambda one: one.seconds).evidence if decide else "no check was chosen"
        )

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results)


def rows(results: Iterable[Result], factors: Collection[str] = tuple(FACTORS)) -> list[Row]:
    """A row for each factor, also for one that nothing looked at."""
    results = list(results)
    return [Row(name, [one for one in results if one.check.factor == name]) for name in factors]


def ok(results: Iterable[Result], factors: Collection[str] = tuple(FACTORS)) -> bool:
    """Whether each of these factors was looked at and holds, or bends as it was declared."""
    return all(row.verdict in FINE for row in rows(results, factors))
