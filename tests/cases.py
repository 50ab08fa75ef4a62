"""Which answers go together: written here a second time, so that a wrong question is noticed."""

from collections.abc import Collection
from itertools import combinations, product
from typing import Any

Answers = dict[str, Any]

# Every question that offers choices, the default first.
FACTORS: dict[str, list[Any]] = {
    "flavor": ["both", "api", "worker"],
    "services": [
        ["postgres"],
        ["postgres", "redis", "s3"],
        ["postgres", "redis"],
        ["postgres", "s3"],
        ["redis", "s3"],
        ["redis"],
        ["s3"],
        [],
    ],
    "broker": ["postgres", "rabbitmq", "redis"],
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
    "worker": DEFAULTS
    | {"flavor": "worker", "services": ["redis"], "broker": "redis"}
    | {"example": False, "ci": "gitlab"},
    "default": DEFAULTS,
    "everything": DEFAULTS | {"services": ["postgres", "redis", "s3"], "broker": "rabbitmq"},
}


def valid(answers: Answers) -> bool:
    """A worker has a broker that is there, a clock has a worker, the example has a database."""
    works = answers["flavor"] != "api"
    stores = "postgres" in answers["services"]
    broker = answers["broker"]
    there = broker in answers["services"] or (broker == "rabbitmq" and stores)
    return (
        (there if works else broker == "postgres")
        and (works or not answers["scheduler"])
        and (stores or not answers["example"])
    )


def valid_sets() -> list[Answers]:
    """All of them, the defaults first."""
    every = (dict(zip(FACTORS, choices, strict=True)) for choices in product(*FACTORS.values()))
    return [answers for answers in every if valid(answers)]


def pairwise(questions: Collection[str] = FACTORS) -> list[Answers]:
    """Few sets in which every two choices that can meet do meet; greedy, always the same."""
    sets = valid_sets()
    missing = set().union(*(pairs(answers, questions) for answers in sets))
    cover = []
    while missing:
        best = max(sets, key=lambda answers: len(pairs(answers, questions) & missing))
        missing -= pairs(best, questions)
        cover.append(best)
    return sorted(cover, key=name)


def pairs(answers: Answers, questions: Collection[str] = FACTORS) -> set[tuple[str, str]]:
    """The choices of a set, two and two, as far as they answer these questions."""
    chosen = [f"{name}={choice}" for name, choice in answers.items() if name in questions]
    return set(combinations(chosen, 2))


def name(answers: Answers) -> str:
    """What a set is called in a test's name: both-postgres-clock-example-github-kubernetes."""
    words = [
        answers["flavor"],
        *answers["services"],
        f"by-{answers['broker']}" * (answers["broker"] != "postgres"),
        "clock" * answers["scheduler"],
        "example" * answers["example"],
        answers["ci"],
        "kubernetes" * answers["kubernetes"],
    ]
    return "-".join(filter(None, words))
