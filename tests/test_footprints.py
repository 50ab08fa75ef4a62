"""What each feature adds to a service and takes from it, and nothing else."""

from collections.abc import Callable
from difflib import unified_diff

from cases import PLATFORMS, PROFILES, Answers
from render import FEATURES, Generate

BARE = PROFILES["bare"]
STORES = BARE | {"services": ["postgres"]}
WORKS = STORES | {"flavor": "both"}
KEEPS_TIME = WORKS | {"scheduler": True}

SHOWS = KEEPS_TIME | {"example": True}
SHARES = WORKS | {"services": ["postgres", "redis"]}

STEPS: dict[str, tuple[Answers, Answers]] = {
    "postgres": (BARE, STORES),
    "api": (WORKS | {"flavor": "worker"}, WORKS),
    "redis": (STORES, STORES | {"services": ["postgres", "redis"]}),
    "s3": (BARE, BARE | {"services": ["s3"]}),
    "worker": (STORES, WORKS),
    "rabbitmq": (WORKS, WORKS | {"broker": "rabbitmq"}),
    "queue_redis": (SHARES, SHARES | {"broker": "redis"}),
    "direct": (SHARES | {"broker": "redis"}, WORKS | {"services": ["redis"], "broker": "redis"}),
    "clock": (WORKS, KEEPS_TIME),
    "example": (STORES, STORES | {"example": True}),
    "webhook": (KEEPS_TIME, SHOWS),
    "login": (SHOWS, SHOWS | {"services": ["postgres", "redis"]}),
    "documents": (SHOWS, SHOWS | {"services": ["postgres", "s3"]}),
    "kubernetes": (KEEPS_TIME, KEEPS_TIME | {"kubernetes": True}),
    "gitlab": (BARE, BARE | {"ci": "gitlab"}),
    **{platform: (STORES, STORES | {"platforms": [platform]}) for platform in PLATFORMS},
}


def footprint(before: dict[str, str], after: dict[str, str]) -> str:
    """Files that come and go by name, the others by their changed lines."""
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        if path not in before or path not in after:
            lines.append(f"Only {'with' if path in after else 'without'}: {path}")
        else:
            old, new = before[path].splitlines(), after[path].splitlines()
            lines += unified_diff(old, new, path, path, n=1, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def test_every_feature_leaves_its_footprint(
    generate: Generate, golden: Callable[[str, dict[str, str]], None]
) -> None:
    made = {
        f"{feature}.diff": footprint(generate(**before).tree(), generate(**after).tree())
        for feature, (before, after) in STEPS.items()
    }
    made["bare.txt"] = "".join(f"{path}\n" for path in generate(**BARE).files())
    golden("footprints", made)


def test_every_feature_has_a_footprint() -> None:
    """The bare service has three of the others; the rest come with another one's first step."""
    bare = {"service", "console", "github"}
    along = {
        "sharing",
        "dunning",
        "queue_postgres",
        "queue_dramatiq",
        "queue_rabbitmq",
        "outbox",
    }
    assert FEATURES.keys() - STEPS.keys() == bare | along
