"""III Config: nothing of an environment stands in the repository, its history or the image."""

import ast
import math
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from .catalogue import check, require
from .kit import Kit
from .reading import (
    ENVIRONMENT,
    HERE,
    IDENTITY,
    ONE_ENVIRONMENT,
    PIPELINES,
    SECRET,
    assigned,
    at,
    compared,
    environment,
    free_of,
    image,
    lines,
    name_of,
    nodes,
    none,
    of_the_machine,
    services,
    source,
    strings,
)

# Keys whose form gives them away, whoever wrote them down.
KEYS = re.compile(
    r"\b(sk|rk|pk)_(live|test)_\w{8,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}"
    r"|\bglpat-[\w-]{18,}|\bxox[abeprs]-[\w-]{10,}|\bwhsec_\w{16,}|\bSG\.[\w-]{16,}\.|\bAIza[\w-]{30,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.|\b(npm_|pypi-Ag)[\w-]{20,}"
    r"|\$2[aby]\$\d\d\$[./\w]{53}|\$argon2(id|i|d)\$v=|\bpbkdf2_sha\d+\$\d+\$"  # of a password
)
ADDRESS = re.compile(
    r"(?i)\b(postgres(ql)?|mysql|mariadb|mongodb|rediss?|valkeys?|amqps?|nats|kafka|ldaps?|smtps?|s3|ftp|wss?|tcp)"
    r"(\+\w+)*://([^\s{]|\S*@\w)|^https?://(?!([\w-]+\.)*(example\.\w+|w3\.org|json-schema\.org|ietf\.org)\b)[^\s{]"
    r"|https?://[^/\s:@]+:[^/\s@]+@|^(localhost|127(\.\d+){3}|10(\.\d+){3}|192\.168(\.\d+){2})(:\d+)?$"
    r"|^[a-z][\w-]*(\.[\w-]+)+:\d{2,5}$|\w\.(internal|amazonaws\.com|svc\.cluster\.local)\b"
)
PASSWORD = re.compile(r"\w://[^/\s:@{$<]*:(?![{$<])[^/\s@]+@(?!(localhost|127\.0\.0\.1)\b)[\w.-]+")
# In a document it is made up, unless it looks like none that anybody would make up.
IN_DOCUMENT = re.compile(r"\w://[^/\s:@]*:(?=[^/\s@]*\d)(?=[^/\s@]*[a-zA-Z])[\w.~+=-]{10,}@[\w.-]+")
PER_ENVIRONMENT = re.compile(
    rf"(?i)((^|/)\.env(?!\.(example|sample|template)$)[^/]*|\.(pem|key|p12|keystore)"
    rf"|(^|.*[/._-]){ENVIRONMENT}([._-][^/]*)?\.(json|ya?ml|toml|ini|cfg|conf|properties|env)"
    rf"|.*(settings?|conf(ig)?s?)[/._-]([^/]*[._-])?{ENVIRONMENT}([._-][^/]*)?\.py"
    rf"|.*(^|/){ENVIRONMENT}[._-](settings?|config)\.py)$"
)
# Variables that name an environment.
NAMES = ("APP_ENV", "ENV", "ENVIRONMENT", "FLASK_ENV", "NODE_ENV", "PYTHON_ENV", "STAGE")
# What a deploy and its pipeline are called after where they go is no setting of the code.
BUILT = {"REVISION", "PORT"}  # what was built, and the port that is exposed
SETTINGS = re.compile(
    r"(?i)(/etc/)?[\w./~-]*\.(conf|cfg|ini|env|properties|toml|ya?ml|json)|(.*/)?\.env"
)
PLACE = re.compile(r"(?i)(^|_)(host|hostname|server|endpoint|bucket|dbname)$")
ELSEWHERE = ("deploy/*", ".github/*", "docs/*")
DEFAULTS = {"default", "default_factory"}
PLAIN = {
    "SecretStr",
    "str",
    "bytes",
    "b64decode",
    "fromhex",
    "unhexlify",
    "encode",
    "decode",
    "join",
    "Field",
}


@check("III-4", 1, 27, 28, 77, 104, 112, fast=True)
def no_setting_in_the_repository(kit: Kit) -> str:
    """No secret, no address and no file for one environment is in the repository or its history."""
    local = set() if (kit.root / ".git").exists() else {".env"}  # without git nothing is kept
    for path in kit.files:
        name = path.relative_to(kit.root).as_posix()
        require(name in local or not _for_one(name), f"{name} is for one environment")
    for path, several in _grouped(kit):
        require(not several, f"{at(kit, path)}: settings of {several}")
    free_of(kit, KEYS, "*")
    free_of(kit, PASSWORD, "deploy/*", "src/*", "bin/*", "Dockerfile", "*.toml", "*.json", "*.ini")
    for where, line in lines(kit, "*.md", "*.rst", "*.txt"):
        require(not IN_DOCUMENT.search(line), f"{where}: a password in {line.strip()[:80]}")
    modules = source(kit)
    for path, node, text in strings(modules):
        where = at(kit, path, node)
        require(not ADDRESS.search(text), f"{where}: the address {text[:40]!r}")
        require(not KEYS.search(text) and not _random(text), f"{where}: what looks like a key")
        file = SETTINGS.fullmatch(text) and "openapi" not in text
        require(not file, f"{where}: the file {text} beside the environment")
    for path, node in nodes(modules):
        where = at(kit, path, node)
        for name, value in assigned(node):
            text = _literal(value) or ""
            secret = SECRET.search(name) and re.fullmatch(r"\S{4,}", text)
            require(not secret, f"{where}: {name} is written down")
            place = PLACE.search(name) and text not in {"", "0.0.0.0", "::"}
            require(not place, f"{where}: {name} is {text}")
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("hashlib.", "hmac.")):
            known = IDENTITY & {name_of(one) for one in ast.walk(node)}
            require(not known, f"{where}: a key that is made of the {' and '.join(known)}")
        for word in compared(node):
            named = ONE_ENVIRONMENT.fullmatch(word)
            require(not named, f"{where}: decides by the name of an environment, {word!r}")
        if isinstance(node, ast.Dict):
            keys = [str(key.value) for key in node.keys if isinstance(key, ast.Constant)]
            several = [key for key in keys if re.fullmatch(ENVIRONMENT, key, re.I)]
            require(len(several) < 2, f"{where}: settings of {several}")
    none(of_the_machine(kit))
    for where, name in _switches(kit, modules):
        require(False, f"{where}: {name} is switched by a commit")
    return f"{len(kit.files)} files, {len(modules)} modules, {_history(kit)} commits"


def _switches(kit: Kit, modules: dict[Path, ast.Module]) -> Iterator[tuple[str, str]]:
    """The constants that are true or false, and decide what the code does."""
    decide = {
        name_of(one)
        for _, node in nodes(modules)
        if isinstance(node, ast.If | ast.IfExp | ast.While)
        for one in ast.walk(node.test)
    }
    for path, tree in modules.items():
        for node in tree.body:
            targets = (
                node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
            )
            value = getattr(getattr(node, "value", None), "value", None)
            for name in map(name_of, targets):
                if isinstance(value, bool) and name.isupper() and name in decide:
                    yield at(kit, path, node), name


def _for_one(name: str) -> bool:
    ours = HERE.name in name or any(fnmatch(name, one) for one in ELSEWHERE)
    return not ours and bool(PER_ENVIRONMENT.search(name))


def _grouped(kit: Kit) -> Iterator[tuple[Path, list[str]]]:
    """The environments that a file has a part for, of the files that hold data."""
    for path in kit.matching("*.yaml", "*.yml", "*.json", "*.toml"):
        name = path.relative_to(kit.root).as_posix()
        if any(fnmatch(name, one) for one in (*ELSEWHERE, *PIPELINES)):
            continue
        load = tomllib.loads if path.suffix == ".toml" else yaml.safe_load
        with suppress(ValueError, yaml.YAMLError):
            whole = mapped(load(path.read_text()))
            for part in (whole, *whole.values()):
                named = [str(key) for key in mapped(part) if re.fullmatch(ENVIRONMENT, str(key))]
                yield path, named if len(named) > 1 else []


def mapped(value: object) -> dict[Any, Any]:
    """This, if it is a mapping."""
    return value if isinstance(value, dict) else {}


def _literal(node: ast.AST) -> str | None:
    """The text that this expression comes to without asking anybody, if it does."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str | bytes) else None
    parts: list[ast.AST] = []
    if isinstance(node, ast.BinOp | ast.JoinedStr | ast.BoolOp | ast.IfExp | ast.List | ast.Tuple):
        parts = list(ast.iter_child_nodes(node))
    elif isinstance(node, ast.Lambda):
        parts = [node.body]
    elif isinstance(node, ast.Call) and name_of(node.func) in PLAIN:
        named = [one.value for one in node.keywords if one.arg in DEFAULTS]
        parts = [*node.args, *named, *ast.iter_child_nodes(node.func)]
    return max((_literal(part) or "" for part in parts), key=len, default=None)


def _random(text: str) -> bool:
    """Whether this is base64 or hex of many bits rather than words."""
    for digits in re.findall(r"\b(?:[0-9a-f]{32,}|[0-9A-F]{32,})\b", text):
        if len(set(digits)) > 8:
            return True
    if not re.fullmatch(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z0-9+/_=-]{24,}", text):
        return False
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares) > 3.7


def _history(kit: Kit) -> int:
    """Look through every commit that is here; their number."""
    git = ["git", "log", "--all", "--patch", "--unified=0", "--no-color", "--format=commit %h"]
    run = subprocess.run(git, cwd=kit.root, capture_output=True, text=True, errors="replace")
    commit, path, commits = "", "", 0
    for line in run.stdout.splitlines():
        if line.startswith("commit "):
            commit, commits = line, commits + 1
        elif line.startswith("+++ b/"):
            path = line[6:]
            require(not _for_one(path), f"{commit}: {path} is for one environment")
        elif line.startswith("+"):
            require(not KEYS.search(line), f"{commit}: a key in {path}")
    return commits


@check("III-5", 30, 100, 103, fast=True)
def one_list_of_variables(kit: Kit) -> str:
    """Source, .env.example, README and manifests know the same variables, and no Secret's value."""
    read = variables(kit)
    require(read, "the source reads no variable")
    for name, (where, _) in read.items():
        require(name in kit.example, f"{where}: {name} is not in .env.example")
    modules = source(kit)
    used = {node.attr.upper() for _, node in nodes(modules) if isinstance(node, ast.Attribute)}
    used |= {text for _, _, text in strings(modules)}
    idle = sorted(set(read) - used)
    require(not idle, f"{idle} are read and change nothing")
    unread = sorted(set(kit.example) - set(read))
    require(not unread, f".env.example: nothing reads {unread}")
    given = list(environment(kit))
    hosts = "|".join(re.escape(name) for _, name, _ in services(kit))
    for where, service, body in services(kit):
        for name, value in _composed(body) if "build" in body else ():
            # What development uses may be read by all: .env.example has it, with another host.
            example = re.sub(rf"(?<=[@/])({hosts})(?=:\d)", "127.0.0.1", value)
            public = value and example == kit.example.get(name)
            require(name in kit.example, f"{where}, {service}: {name} is not in .env.example")
            secret = SECRET.search(name) and not public
            require(not secret, f"{where}, {service}: {name} is a secret")
    for where, name, _ in given:
        known = name in kit.example or name.startswith("PYTHON")
        require(known, f"{where}: {name} is not in .env.example")
        require(not SECRET.search(name), f"{where}: {name} is a secret")
    for path, documents in kit.documents("*.yaml", "*.yml").items():
        for one in documents:
            kept = {"data", "stringData"} if mapped(one).get("kind") == "Secret" else set()
            shown = [key for key in {*kept, "secretGenerator"} if mapped(one).get(key)]
            require(not shown, f"{at(kit, path)}: a Secret's values")
    deployed = "\n".join(path.read_text() for path in kit.matching("deploy/k8s/*"))
    needed = [name for name, (_, default) in read.items() if default is ...]
    missing = [name for name in needed if deployed and not re.search(rf"\b{name}\b", deployed)]
    require(not missing, f"deploy/k8s does not tell that {missing} must be set")
    told = "".join(path.read_text() for path in kit.matching("README.md"))
    untold = [name for name in kit.example if f"`{name}`" not in told]
    require(not untold, f"README.md: {untold} are missing")
    return f"{len(read)} variables, known to all alike"


def _composed(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The variables of a compose service, with their values if it has them."""
    given = body.get("environment", [])
    if isinstance(given, dict):
        return [(name, str(value or "")) for name, value in given.items()]
    return [(name, value) for name, _, value in (str(one).partition("=") for one in given)]


def variables(kit: Kit) -> dict[str, tuple[str, object]]:
    """Each variable that the source reads: where, and its default; ... is for none."""
    found: dict[str, tuple[str, object]] = {}
    for path, tree in source(kit).items():
        names = {name_of(node) for node in ast.walk(tree)}
        for node in ast.walk(tree):
            key: ast.AST | None = None
            if isinstance(node, ast.Subscript) and name_of(node.value) == "environ":
                key = node.slice
            elif isinstance(node, ast.Call) and node.args:
                of = name_of(node.func.value) if isinstance(node.func, ast.Attribute) else ""
                key = node.args[0] if of == "environ" or name_of(node.func) == "getenv" else None
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.setdefault(
                    key.value, (at(kit, path, node), None if isinstance(node, ast.Call) else ...)
                )
            # Where the environment is read as a whole, the fields of a class are its variables.
            if isinstance(node, ast.ClassDef) and names & {"environ", "BaseSettings"}:
                for field in node.body:
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                        found[field.target.id.upper()] = (
                            at(kit, path, field),
                            _default(field.value),
                        )
    return found


def _default(value: ast.AST | None) -> object:
    if isinstance(value, ast.Call):
        named = [one.value for one in value.keywords if one.arg in DEFAULTS]
        return _default([*value.args, *named, None][0])
    return ... if value is None else getattr(value, "value", None)


@check("III-6s", 31, needs=("Dockerfile",), fast=True)
def nothing_baked_in(kit: Kit) -> str:
    """The image takes no setting and no secret by ARG, ENV, COPY or the folder that is sent."""
    given = [(f"Dockerfile, {word}", rest) for word, rest in image(kit) if word in {"ARG", "ENV"}]
    for where, line in lines(kit, *PIPELINES, "bin/*"):
        given += [(where, one) for one in re.findall(r"--build-arg[ =](\w+=?)", line)]
    for where, text in given:
        for name in re.findall(r"(?:^|\s)([A-Za-z_]\w*)(?==|\s|$)", text):
            setting = name in kit.example or name in NAMES or SECRET.search(name)
            require(not setting or name in BUILT, f"{where} {name}")
    copied = [rest for word, rest in image(kit) if word in {"COPY", "ADD"} and "--from" not in rest]
    require(not any(".env" in rest for rest in copied), f"Dockerfile: COPY {copied}")
    path = kit.root / ".dockerignore"
    rules = path.read_text().splitlines() if path.exists() else []
    sent = [name for name in (".env", ".env.local", ".git", "id.pem") if not _ignored(name, rules)]
    whole = any(rest.split()[-2] in {".", "./"} for rest in copied)
    require(not (sent and whole), f".dockerignore lets {sent} into the image")
    return f"{len(image(kit))} instructions; {len(rules)} rules keep .env, .git and keys out"


def _ignored(name: str, rules: list[str]) -> bool:
    held = False
    for rule in (rule.strip() for rule in rules):
        pattern = rule.removeprefix("!").removeprefix("**/").strip("/")
        if pattern and not rule.startswith("#") and fnmatch(name, pattern):
            held = not rule.startswith("!")
    return held
