"""II Dependencies: what is imported is declared, what is locked is what gets installed."""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from .catalogue import check, require
from .kit import Kit
from .reading import (
    PIPELINES,
    at,
    distribution,
    floating,
    free_of,
    image,
    jobs,
    lines,
    name_of,
    nodes,
    project,
    python,
    source,
    strings,
    uncommented,
)

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for uv

OF_MACHINE = re.compile(
    r"(getpass\.)?getuser|(os\.)?getlogin|(pwd|grp)\.get\w+|(os\.path\.)?expanduser|Path\.home"
    r"|(locale\.)?setlocale|(ctypes\.util\.)?find_library|shutil\.which"
    r"|(ctypes\.)?(CDLL|PyDLL|WinDLL|OleDLL)|(ctypes\.)?\w+dll\.LoadLibrary|\w*ffi\.dlopen"
)
# An environment in which the machine's packages are, too.
SHARED = re.compile(
    r"--(system-site|break-system)-packages|\bUV_SYSTEM_PYTHON\b|\bPIP_BREAK_SYSTEM_PACKAGES\b"
    r"|\buv pip install\b.*\s--system\b"
)
ITS_FILES = re.compile(r"(/usr/|/opt/|/Library/|[A-Z]:\\)\S+")  # whatever the machine holds
BY_MACHINE = re.compile(r"(?<![\w/.-])python3?(?: -\S+)* -m (\w+)")  # in a script of bin/
SYSTEM = re.compile(
    r"\b(?:(?:apt|apt-get|dnf|microdnf|yum|zypper) (?:-\S+ )*install|apk (?:-\S+ )*add)\b[^&;\n]*"
)


@check("II-1", 21, fast=True)
def imports_are_declared(kit: Kit) -> str:
    """Each package that the source imports is declared; one that another package brings is not."""
    listed = project(kit)["project"].get("dependencies", [])
    listed = [*listed, *(line for _, line in lines(kit, "requirements.in", "requirements.txt"))]
    declared = {distribution(line) for line in listed}
    modules = source(kit)
    own = {
        part.removesuffix(".py") for path in modules for part in path.relative_to(kit.root).parts
    }
    providers, used = packages_distributions(), set()
    for path, node in nodes(modules):
        elsewhere = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        found = elsewhere in {"sys.path", "site.addsitedir"}
        require(not found, f"{at(kit, path, node)}: imports from elsewhere by {elsewhere}")
    for path, tree in modules.items():
        for node, name in _imports(tree):
            if name == "zoneinfo":  # a slim image has no time zones
                require("tzdata" in declared, f"{at(kit, path, node)}: zones without tzdata")
            if name in own or name in sys.stdlib_module_names:
                continue
            packages = {distribution(one) for one in providers.get(name, [name])}
            require(packages & declared, f"{at(kit, path, node)}: {name} is not declared")
            used |= packages & declared
    for path, node, name in _run_by_the_machine(kit):
        known = name in sys.stdlib_module_names or (kit.root / name).exists()
        require(known, f"{at(kit, path, node)}: the machine's own Python may lack {name}")
    return f"{len(modules)} modules import {len(used)} packages, all of them declared"


def _run_by_the_machine(kit: Kit) -> Iterator[tuple[Path, ast.AST, str]]:
    """What is imported by the tools that scripts of bin/ run with no environment of their own."""
    tools = {
        name for path in kit.matching("bin/*") for name in BY_MACHINE.findall(uncommented(path))
    }
    for path, tree in python(kit, *(f"{name}/*.py" for name in tools)).items():
        yield from ((path, node, name) for node, name in _imports(tree))


def _imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """The top-level names that this code imports when it runs, not when its types are checked."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and name_of(node.test) == "TYPE_CHECKING":
            yield from _imports(ast.Module(node.orelse, []))
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and name_of(node.func) in {
            "import_module",
            "__import__",
            "find_spec",
        }:
            names = [str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant)]
        yield from ((node, name.partition(".")[0]) for name in names if not name.startswith("."))
        yield from _imports(node)


@check("II-7", 22, fast=True)
def nothing_of_the_machine(kit: Kit) -> str:
    """The source leans on no list of users, home, locale, library or file that an image may not
    have, and nothing is installed where the machine's packages are."""
    for path, node in nodes(modules := source(kit)):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        require(not OF_MACHINE.fullmatch(called), f"{at(kit, path, node)}: {called}")
    for path, node, text in strings(modules):
        require(not ITS_FILES.match(text), f"{at(kit, path, node)}: a file of the machine, {text}")
    read = free_of(kit, SHARED, "bin/*", "deploy/*", "Dockerfile", "pyproject.toml", *PIPELINES)
    return f"{len(modules)} modules, {read} lines"


@check("II-2", 23, 107, 113, needs=("uv.lock", "pyproject.toml"), fast=True)
def the_lock_is_honest(kit: Kit) -> str:
    """The lock fits the manifest, image and pipelines install from no other, and the image adds
    nothing of the system."""
    uv = ["env", f"PATH={PATH}", "uv", "lock", "--check", "--offline", "--quiet"]
    done = subprocess.run(uv, cwd=kit.root, capture_output=True, text=True)
    require(done.returncode == 0, f"uv lock --check: {done.stderr.strip().splitlines()[:1]}")
    baked = [rest for word, rest in image(kit) if word == "RUN"]
    piped = [job.commands for found in jobs(kit).values() for job in found.values()]
    added = SYSTEM.findall("\n".join(baked))
    require(not added, f"the Dockerfile has {added[:1]}")
    require(not floating(kit), f"the Dockerfile takes whatever {floating(kit)} is by then")
    seen = []
    for place, texts in (("the Dockerfile", baked), ("the pipeline", piped)):
        text = "\n".join(texts)
        found = re.findall(r"\buv sync\b[^|&;\n]*", text)
        require(found or not texts, f"{place} has no uv sync")
        for rest in re.findall(r"\bpip3? install\b([^|&;\n]*)", text):
            packages = {word for word in rest.split() if not word.startswith("-")}
            require(packages == {"uv"}, f"{place} has pip install {rest.strip()}")
        seen += found
    for line in (tried := sorted({line.strip() for line in seen})):
        before, after = _tried(line, project(kit))
        require(before == 0, f"`{line}` fails on a lock that fits")
        require(after != 0, f"`{line}` installs from a lock that does not fit")
    return f"a lock that does not fit is refused by {'; '.join(tried)}"


def _tried(line: str, real: dict[str, Any]) -> tuple[int, int]:
    """How this command ends in a project whose lock fits, and once the lock does not.

    The project has the real one's groups and extras, and no packages: that needs no network.
    """
    text = '[project]\nname = "probe"\nversion = "0"\nrequires-python = ">=3.11"\n'
    extras, groups = real["project"].get("optional-dependencies", {}), real.get("dependency-groups")
    table = "\n[project.optional-dependencies]\n" + "".join(f"{one} = []\n" for one in extras)
    table += "[dependency-groups]\n" + "".join(f"{one} = []\n" for one in groups or {})
    with tempfile.TemporaryDirectory() as folder:
        root, shell = Path(folder), {"PATH": PATH, "HOME": folder, "CI": "1"}
        shell |= {"UV_OFFLINE": "1", "UV_PYTHON": sys.executable}

        def run(command: str) -> int:
            arguments = ["sh", "-c", command]
            return subprocess.run(arguments, cwd=root, env=shell, capture_output=True).returncode

        (root / "pyproject.toml").write_text(text + table)
        run("uv lock")
        before = run(f"{line} --dry-run")
        (root / "drift").mkdir()
        (root / "drift/pyproject.toml").write_text(text.replace("probe", "drift"))
        drift = '[tool.uv.sources]\ndrift = { path = "drift" }\n'
        (root / "pyproject.toml").write_text(f'{text}dependencies = ["drift"]\n{table}{drift}')
        return before, run(f"{line} --dry-run")
