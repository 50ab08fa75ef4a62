"""Which answers go together: written here a second time, so that a wrong question is noticed."""

from itertools import combinations, product
from typing import Any

Answers = dict[str, Any]

# Every question that offers choices, the default first.
FACTORS: dict[str, list[Any]] = {
    "flavor": ["both", "api", "worker"],
    "services": [["postgres"], []],
    "broker": ["postgres"],
    "scheduler": [True, False],
    "example": [True, False],
    "ci": ["github", "gitlab"],
    "kubernetes": [True, False],
}
DEFAULTS: Answers = {question: choices[0] for question, choices in FACTORS.items()}

PROFILES: dict[str, Answers] = {
    "bare": DEFAULTS
    | {"flavor": "api", "services": [], "scheduler": False, "example": False, "kubernetes": False},
    "api-postgres": DEFAULTS | {"flavor": "api", "scheduler": False, "ci": "gitlab"},
    "worker": DEFAULTS | {"flavor": "worker", "example": False, "ci": "gitlab"},
    "everything": DEFAULTS,
}


def valid(answers: Answers) -> bool:
    """A worker has a queue, a clock has a worker, the example has a database."""
    works = answers["flavor"] != "api"
    stores = "postgres" in answers["services"]
    return (
        (stores or not works)
        and (works or not answers["scheduler"])
        and (stores or not answers["example"])
    )


def valid_sets() -> list[Answers]:
    """All of them, the defaults first."""
    every = (dict(zip(FACTORS, choices, strict=True)) for choices in product(*FACTORS.values()))
    return [answers for answers in every if valid(answers)]


def pairwise() -> list[Answers]:
    """Few sets in which every two choices that can meet do meet; greedy, always the same."""
    sets = valid_sets()
    missing = set().union(*map(pairs, sets))
    cover = []
    while missing:
        best = max(sets, key=lambda answers: len(pairs(answers) & missing))
        missing -= pairs(best)
        cover.append(best)
    return sorted(cover, key=name)


def pairs(answers: Answers) -> set[tuple[str, str]]:
    return set(combinations([f"{question}={choice}" for question, choice in answers.items()], 2))


def name(answers: Answers) -> str:
    """What a set is called in a test's name: both-postgres-clock-example-github-kubernetes."""
    words = [
        answers["flavor"],
        *answers["services"],
        "clock" * answers["scheduler"],
        "example" * answers["example"],
        answers["ci"],
        "kubernetes" * answers["kubernetes"],
    ]
    return "-".join(filter(None, words))
