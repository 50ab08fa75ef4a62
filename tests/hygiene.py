"""What can be wrong with an emitted file, whatever it is for."""

import ast
import json
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import PurePath
from typing import Any

import yaml


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.YAMLError(f"twice: {', '.join(twice)}")
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> list[Any]:
    return list(yaml.load_all(text, _UniqueKeys))  # a SafeLoader all the same


PARSERS: dict[str, Callable[[str], object]] = {
    ".json": json.loads,
    ".lock": tomllib.loads,
    ".py": ast.parse,
    ".toml": tomllib.loads,
    ".yaml": _yaml,
    ".yml": _yaml,
}
BLEMISHES = {
    "is empty": r"\A\s*\Z",
    "does not end in exactly one newline": r"[^\n]\Z|\n\n\Z",
    "has blanks at the end of a line": r"[ \t\r]$",
    "has a conflict marker": r"^(<<<<|>>>>)",
    "has two blank lines together": r"\n\n\n",
}
FORMATTED = (".py", ".mako")  # blank lines there are the formatter's


@cache
def faults(name: str, text: str) -> list[str]:
    """What is wrong with this file, as sentences; most files are the same in most projects."""
    found: list[str] = []
    try:
        PARSERS.get(PurePath(name).suffix, str)(text)
    except (ValueError, SyntaxError, yaml.YAMLError) as error:
        found.append(f"{name} does not parse: {error}")
    for blemish, pattern in BLEMISHES.items():
        match = re.search(pattern, text, re.MULTILINE)
        if match and not ("blank lines" in blemish and name.endswith(FORMATTED)):
            found.append(f"{name} {blemish}: line {text.count(chr(10), 0, match.start()) + 1}")
    return found
