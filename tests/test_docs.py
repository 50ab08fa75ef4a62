"""What the documents say is so."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from render import ROOT, tracked

FEATURES = ROOT / "docs" / "features.md"
HEAD = """# Features

What each brings to a service and which files go when it is off; a file of two features needs both.
Written by `bin/golden` from `extensions/registry.yml`.
"""


def described(registry: dict[str, Any]) -> str:
    """The registry for people."""
    blocks = [HEAD]
    for name, feature in registry.items():
        lines = [f"## {name}\n\n{feature['about']}.\n"]
        brings = {
            "Processes": [process["name"] for process in feature.get("processes", [])],
            "Variables": [variable["name"] for variable in feature.get("variables", [])],
            "Packages": feature.get("requirements", []),
            "For development": feature.get("dev_requirements", []),
            "Files": feature.get("files", []),
        }
        lines += [
            f"- {what}: {', '.join(f'`{n}`' for n in names)}"
            for what, names in brings.items()
            if names
        ]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def test_the_features_are_those_of_the_registry(request: pytest.FixtureRequest) -> None:
    made = described(yaml.safe_load((ROOT / "extensions" / "registry.yml").read_text()))
    if request.config.getoption("--rewrite-golden"):
        FEATURES.write_text(made)
    assert FEATURES.read_text() == made, "If it is meant: bin/golden, and commit the change."


@pytest.mark.parametrize("name", [name for name in tracked("*.md") if "template/" not in name])
def test_a_link_leads_somewhere(name: str) -> None:
    document = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("name", ["README.md", "docs/generate.md", "extensions/README.md"])
def test_a_command_that_is_named_is_there(name: str) -> None:
    ours = {Path(found).name for found in tracked("bin", "template/bin")}
    named = set(re.findall(r"\bbin/([a-z]+)", (ROOT / name).read_text()))
    assert named <= ours
    assert named
