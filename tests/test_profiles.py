"""Four whole services, file by file: what a change to the template means to their owners."""

from collections.abc import Callable

import pytest
from cases import PROFILES
from render import Generate


@pytest.mark.parametrize("profile", PROFILES)
def test_a_whole_service_is_as_it_was(
    profile: str, generate: Generate, golden: Callable[[str, dict[str, str]], None]
) -> None:
    tree = generate(**PROFILES[profile]).tree()
    same = ("uv.lock", "tests/conformance/")  # in all: as they stand in template/
    golden(
        f"profiles/{profile}",
        {name: text for name, text in tree.items() if not name.startswith(same)},
    )
