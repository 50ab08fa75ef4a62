"""Which answers go together: written here a second time, so that a wrong question is noticed."""

from collections.abc import Collection
from itertools import combinations, cycle, product
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
# Their files depend on what a service is made of and not on each other.
PLATFORMS = ["heroku", "fly", "ecs", "systemd", "terraform"]
DEFAULTS: Answers = {question: choices[0] for question, choices in FACTORS.items()} | {
    "platforms": []
}

PROFILES: dict[str, Answers] = {
    "bare": DEFAULTS
    | {"flavor": "api", "services": [], "scheduler": False, "example": False, "kubernetes": False},
    "api-postgres": DEFAULTS | {"flavor": "api", "scheduler": False, "ci": "gitlab"},
    "worker": DEFAULTS
    | {"flavor": "worker", "services": ["redis"], "broker": "redis"}
    | {"example": False, "ci": "gitlab"},
    "default": DEFAULTS,
    "everything": DEFAULTS
    | {"services": ["postgres", "redis", "s3"], "broker": "rabbitmq", "platforms": PLATFORMS},
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


def every_set() -> list[Answers]:
    """What can be answered, the defaults first: without platforms, with all, with each alone."""
    made = [dict(zip(FACTORS, choices, strict=True)) for choices in product(*FACTORS.values())]
    plain: list[Answers] = [answers | {"platforms": []} for answers in made]
    shapes = [one for one in plain if one["ci"] == "github" and one["kubernetes"]]
    everywhere: list[Answers] = [answers | {"platforms": PLATFORMS} for answers in shapes]
    alone: list[Answers] = [
        DEFAULTS | {"kubernetes": False, "platforms": [platform]} for platform in PLATFORMS
    ]
    return plain + everywhere + alone


def valid_sets() -> list[Answers]:
    """All of these that are not refused."""
    return [answers for answers in every_set() if valid(answers)]


def pairwise(questions: Collection[str] = FACTORS) -> list[Answers]:
    """Few sets in which every two choices that can meet do meet; greedy, always the same.

    The platforms go round among them: none, each, and all.
    """
    sets = [answers for answers in valid_sets() if not answers["platforms"]]
    missing = set().union(*(pairs(answers, questions) for answers in sets))
    cover = []
    while missing:
        best = max(sets, key=lambda answers: len(pairs(answers, questions) & missing))
        missing -= pairs(best, questions)
        cover.append(best)
    turns = cycle([[], *([platform] for platform in PLATFORMS), PLATFORMS])
    return [answers | {"platforms": next(turns)} for answers in sorted(cover, key=name)]


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
        *(["everywhere"] if answers["platforms"] == PLATFORMS else answers["platforms"]),
    ]
    return "-".join(filter(None, words))
