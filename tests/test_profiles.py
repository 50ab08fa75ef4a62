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
    del tree["uv.lock"]  # the same in all: template/uv.lock
    golden(f"profiles/{profile}", tree)
