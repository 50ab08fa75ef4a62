"""What the checks that only read files share: source, image, pipelines and manifests."""

import ast
import json
import re
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .catalogue import require
from .kit import Kit
from dev.__main__ import ONE_OFF

HERE = Path(__file__).parent
ENVIRONMENT = r"(?:prod|production|pre-?prod(?:uction)?|staging|stage|stg|uat|qa|develop(?:ment)?)"
SECRET = re.compile(
    r"(?i)(^|_)(pass(word|wd|phrase)?|secret|token|credentials?|dsn"
    r"|(api|access|private|secret|signing)_?key)$|^[A-Z_]+_UR[LI]$"
)
BY_HAND = ONE_OFF - {"release"}  # run by a person, and end: no manifest starts them
PIPELINES = (".github/workflows/*.yml", ".github/workflows/*.yaml", ".gitlab-ci.yml")
PARSING = threading.Lock()  # CPython 3.11 counts the depth of all threads' trees together
MANIFESTS = ("deploy/*.yaml", "deploy/*.yml")
COMPOSE = ("compose*.y*ml", "docker-compose*.y*ml")
# What an environment is called, of the words that mean little else.
ONE_ENVIRONMENT = re.compile(r"(?i)\W*(pre-?)?(prod(uction)?|staging|stg|uat|development)\W*")
HERE_ALONE = re.compile(r"localhost|127(\.\d+){3}|::1|host\.docker\.internal")
MACHINE = {"gethostname", "getfqdn", "uname", "getuser", "getlogin"}  # and platform.node
LOOKS = {"startswith", "endswith", "search", "match", "fullmatch", "find", "count"}
IDENTITY = {"revision", "release_id"}  # of a release, as the settings have it
# What runs code that comes as data, or another program in the place of this one.
RUNS = re.compile(
    r"exec|eval|(types\.)?(Function|Code)Type|(marshal|pickle|_?c?pickle|dill|cloudpickle)\.loads?"
    r"|(importlib\.util\.)?spec_from_file_location|runpy\.\w+"
)
BECOMES = re.compile(r"exec[lv]p?e?")


class Pod(NamedTuple):
    """A manifest that starts a process of the service, and the container in which it does."""

    process: str
    where: str
    document: dict[str, Any]
    container: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = template(self.document)["spec"]
        return spec


class Job(NamedTuple):
    """A job of a pipeline."""

    name: str
    where: str
    body: dict[str, Any]
    commands: str
    after: set[str]


def at(kit: Kit, path: Path, line: int | ast.AST = 0) -> str:
    number = getattr(line, "lineno", line)
    return f"{path.relative_to(kit.root).as_posix()}{f':{number}' if number else ''}"


def python(kit: Kit, *patterns: str) -> dict[Path, ast.Module]:
    """The parsed modules that match, this kit's own left out."""
    found = [path for path in kit.matching(*patterns) if HERE.name not in path.parts]
    with PARSING:
        return {path: ast.parse(path.read_bytes(), str(path)) for path in found}


def source(kit: Kit) -> dict[Path, ast.Module]:
    """The service's own modules: below src/, else all that are not tests or tools."""
    found = python(kit, "src/*.py") or {
        path: tree
        for path, tree in python(kit, "*.py").items()
        if path.relative_to(kit.root).parts[0] not in {"tests", "dev", "docs", "scripts"}
    }
    assert found, "no Python source below the root"
    return found


def nodes(trees: dict[Path, ast.Module]) -> Iterator[tuple[Path, Any]]:
    """Every node of these modules with its file."""
    return ((path, node) for path, tree in trees.items() for node in ast.walk(tree))


def none(places: Iterator[str]) -> None:
    """Refuse the first of these, if there is one."""
    for where in places:
        require(False, where)


def of_no_commit(kit: Kit) -> Iterator[str]:
    """Where the source runs code that came as data, but for the one-offs that a person talks to."""
    for path, node in nodes(source(kit)):
        runs = isinstance(node, ast.Call) and RUNS.fullmatch(ast.unparse(node.func))
        runs = runs or BECOMES.fullmatch(getattr(node, "attr", ""))
        if runs and path.stem not in ONE_OFF:
            yield f"{at(kit, path, node)}: runs what is in no commit"


def of_the_machine(kit: Kit) -> Iterator[str]:
    """Where the source asks which machine, or whose, this is."""
    for path, node in nodes(source(kit)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if name_of(node.func) in MACHINE or called == "platform.node":
                yield f"{at(kit, path, node)}: {called} decides by the machine"


def by_release(kit: Kit) -> Iterator[str]:
    """Where the source does one thing under the name of one release, and another else."""
    for path, node in nodes(source(kit)):
        test = node if isinstance(node, ast.Compare) else getattr(node, "test", None)
        asked = IDENTITY & {getattr(one, "attr", "") for one in ast.walk(test)} if test else set()
        if asked:
            yield f"{at(kit, path, node)}: decides by {' and '.join(asked)}"


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The values that this node gives a name."""
    match node:
        case ast.Assign():
            for target in node.targets:
                key = getattr(getattr(target, "slice", None), "value", "")
                yield name_of(target) or str(key), node.value
        case ast.AnnAssign(value=ast.AST()) | ast.NamedExpr():
            yield name_of(node.target), node.value  # type: ignore[misc]
        case ast.keyword():
            yield node.arg or "", node.value
        case ast.Dict():
            for key, value in zip(node.keys, node.values, strict=True):
                yield str(getattr(key, "value", "")), value
        case ast.arguments():
            last = node.args[len(node.args) - len(node.defaults) :]
            given = [*zip(last, node.defaults, strict=True)]
            for one, default in [*given, *zip(node.kwonlyargs, node.kw_defaults, strict=True)]:
                if default:
                    yield one.arg, default
        case ast.Call(args=[ast.Constant(value=str(name)), value]):
            yield name, value


def compared(node: ast.AST) -> list[str]:
    """The texts with which this compares something, or that it looks for in it."""
    parts: list[ast.AST] = []
    if isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.MatchValue):
        parts = [node.value]
    elif isinstance(node, ast.Call) and name_of(node.func) in LOOKS:
        parts = [*node.args]
    inner = [one for part in parts for one in (part, *getattr(part, "elts", []))]
    return [one.value for one in inner if isinstance(getattr(one, "value", None), str)]


def strings(trees: dict[Path, ast.Module]) -> Iterator[tuple[Path, ast.expr, str]]:
    """Every text in the code that is no docstring; what is filled in is {}."""
    for path, tree in trees.items():
        prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in prose:
                if isinstance(value := node.value, str | bytes):
                    text = value if isinstance(value, str) else value.decode("latin-1")
                    yield path, node, text
            elif isinstance(node, ast.JoinedStr):
                yield (
                    path,
                    node,
                    "".join(
                        str(getattr(one, "value", "{}")) if isinstance(one, ast.Constant) else "{}"
                        for one in node.values
                    ),
                )


def name_of(node: ast.AST) -> str:
    """The last name of an expression: `get` of `os.environ.get`."""
    return getattr(node, "attr", getattr(node, "id", ""))


def lines(kit: Kit, *patterns: str) -> Iterator[tuple[str, str]]:
    """Each line of the text files that match, with where it stands, comments taken away."""
    for path in kit.matching(*patterns):
        if HERE.name in path.parts:
            continue
        for number, line in enumerate(uncommented(path).splitlines(), 1):
            yield at(kit, path, number), line


def uncommented(path: Path) -> str:
    """The text of a file without its comments, line for line."""
    return re.sub(r"(?m)(^|\s)#.*", "", path.read_text(errors="replace"))


def free_of(kit: Kit, pattern: re.Pattern[str], *patterns: str) -> int:
    """Refuse lines that this pattern finds, documents left alone; the number of lines read."""
    read = [one for one in lines(kit, *patterns) if ".md:" not in one[0]]
    for where, line in read:
        require(not pattern.search(line), f"{where}: {line.strip()}")
    return len(read)


def free_commands(kit: Kit, pattern: re.Pattern[str]) -> int:
    """The same for every command of Procfile, image and manifests."""
    texts = [(f"Procfile, {name}", line) for name, line in kit.procfile.items()]
    texts += [("Dockerfile", " ".join(command(kit, one))) for one in ("ENTRYPOINT", "CMD")]
    texts += [(pod.where, " ".join(words(kit, pod.container))) for pod in pods(kit)]
    for where, line in texts:
        require(not pattern.search(line), f"{where}: {line}")
    return len(texts)


def imported(node: ast.AST) -> list[str]:
    """The full names that an import statement of another package brings."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def services(kit: Kit) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The services of compose files: where, name, what it is."""
    for path, documents in kit.documents(*COMPOSE).items():
        for name, body in documents[0].get("services", {}).items():
            yield at(kit, path), name, body


def project(kit: Kit) -> dict[str, Any]:
    """The tables of pyproject.toml that every project has, and those of this one."""
    path = kit.root / "pyproject.toml"
    found = tomllib.loads(path.read_text()) if path.exists() else {}
    return {"project": {}, "build-system": {}, **found}


def distribution(requirement: str) -> str:
    """The normalized name of a requirement such as `redis[hiredis]>=8`."""
    return re.sub(
        r"[-_.]+", "-", re.split(r"[\s\[<>=!~;@(]", requirement.strip(), maxsplit=1)[0]
    ).lower()


# ---- the image


def image(kit: Kit) -> list[tuple[str, str]]:
    """The instructions of the Dockerfile."""
    path = kit.root / "Dockerfile"
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text()) if path.exists() else ""
    whole = re.sub(r"\\\n\s*", " ", text).splitlines()
    parts = [line.strip().partition(" ") for line in whole if line.strip()]
    return [(word.upper(), rest.strip()) for word, _, rest in parts]


def command(kit: Kit, instruction: str) -> list[str]:
    """The words of the last CMD or ENTRYPOINT; of a line for the shell, that line."""
    found = [rest for word, rest in image(kit) if word == instruction]
    if not found:
        return []
    return list(json.loads(found[-1])) if found[-1].startswith("[") else [found[-1]]


def words(kit: Kit, container: dict[str, Any]) -> list[str]:
    """What this container runs."""
    own = container.get("args", [] if "command" in container else command(kit, "CMD"))
    return [str(word) for word in [*container.get("command", command(kit, "ENTRYPOINT")), *own]]


# ---- pipelines


def jobs(kit: Kit) -> dict[Path, dict[str, Job]]:
    """The jobs of each pipeline, with the text of the repository's scripts that they run."""
    return {
        path: {job.name: job for job in _jobs(kit, path, documents[0])}
        for path, documents in kit.documents(*PIPELINES).items()
    }


def _jobs(kit: Kit, path: Path, pipeline: dict[str, Any]) -> Iterator[Job]:
    gitlab = path.name == ".gitlab-ci.yml"
    bodies = pipeline if gitlab else pipeline["jobs"]
    if gitlab:
        whole = {n: _extended(pipeline, n) for n, b in bodies.items() if isinstance(b, dict)}
        bodies = {n: b for n, b in whole.items() if "script" in b and not n.startswith(".")}
    stages = pipeline.get("stages", ["build", "test", "deploy"]) if gitlab else []
    stage = {name: body.get("stage", "test") for name, body in bodies.items()}
    for name, body in bodies.items():
        steps = [*_list(body.get("before_script")), *_list(body.get("script"))]
        steps += [step.get("run", "") for step in body.get("steps", [])]
        text = "\n".join(map(str, steps))
        scripts = [kit.root / word for word in text.split() if kit.root / word in kit.files]
        text = "\n".join([text, *(uncommented(script) for script in scripts)])
        if gitlab and "needs" not in body:
            before = stages[: stages.index(stage[name])]
            after = {other for other in bodies if stage[other] in before}
        else:
            wanted = [
                one.get("job") if isinstance(one, dict) else one for one in _list(body.get("needs"))
            ]
            after = {str(one) for one in wanted}
        yield Job(name, f"{at(kit, path)}, job {name}", body, text, after)


def _extended(pipeline: dict[str, Any], name: str) -> dict[str, Any]:
    """A job of GitLab with what it extends; its own keys count, and those of a mapping in it."""
    made: dict[str, Any] = {}
    body = pipeline.get(name, {})
    for layer in (*(_extended(pipeline, one) for one in _list(body.get("extends"))), body):
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(made.get(key), dict)
            made[key] = made[key] | value if both else value
    return made


def triggers(workflow: dict[Any, Any]) -> dict[str, Any]:
    """What a workflow of GitHub runs on: event to its filters, or None."""
    on = workflow.get("on", workflow.get(True))  # YAML 1.1 reads the key `on` as a truth
    return on if isinstance(on, dict) else dict.fromkeys(_list(on))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


# ---- manifests


def template(document: dict[str, Any]) -> dict[str, Any]:
    """The pod template of a Deployment, a Job or a CronJob."""
    spec = document["spec"]
    found: dict[str, Any] = (
        spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    )
    return found


def bases(kit: Kit) -> list[str]:
    """The images that the Dockerfile begins with, its own stages left out."""
    froms = [rest.split() for word, rest in image(kit) if word == "FROM"]
    stages = {"scratch", *(one[-1] for one in froms if len(one) > 2)}
    return [one[0] for one in froms if one[0] not in stages]


def floating(kit: Kit) -> list[str]:
    """Those of them that may be others tomorrow."""
    return [one for one in bases(kit) if not re.search(r":(?!latest$)[^/]+$|@sha256:", one)]


def manifests(kit: Kit) -> list[tuple[Path, dict[str, Any]]]:
    """The manifests below deploy/ that the kustomization beside them, if any, takes."""
    found = []
    for path, documents in kit.documents(*MANIFESTS).items():
        beside = path.with_name("kustomization.yaml")
        if path != beside and beside.exists():
            taken = yaml.safe_load(beside.read_text()).get("resources", [])
            documents = documents if path.name in taken or f"./{path.name}" in taken else []
        found += [(path, one) for one in documents if isinstance(one, dict) and "kind" in one]
    return found


def pods(kit: Kit, *kinds: str) -> list[Pod]:
    """What starts processes of the service: those of the Procfile first of all."""
    found = []
    for path, document in manifests(kit):
        if document["kind"] not in (kinds or ("Deployment", "StatefulSet", "Job", "CronJob")):
            continue
        meta = document["metadata"]
        label = str(meta.get("labels", {}).get("app.kubernetes.io/component", meta["name"]))
        for container in template(document)["spec"]["containers"]:
            names = [label, container["name"], meta["name"], meta["name"].rpartition("-")[2]]
            process = next((name for name in names if name in kit.procfile), label)
            found.append(
                Pod(
                    process,
                    f"{at(kit, path)}, {document['kind']} {meta['name']}",
                    document,
                    container,
                )
            )
    return found


def counts(kit: Kit, pod: Pod) -> list[int]:
    """The replicas that a Deployment begins with: its own number, or the least of what scales it,
    and those that overlays put in its place."""
    made, scaled, key = pod.document, pod.document, "replicas"
    for _, one in manifests(kit):
        target = one.get("spec", {}).get("scaleTargetRef", {}).get("name")
        if one["kind"] == "HorizontalPodAutoscaler" and target == made["metadata"]["name"]:
            scaled, key = one, "minReplicas"
    found = [scaled["spec"].get(key, 1)]
    for path, documents in kit.documents("deploy/*kustomization.yaml").items():
        named = documents[0].get("replicas") or []
        found += [one["count"] for one in named if one["name"] == made["metadata"]["name"]]
        for patch in documents[0].get("patches") or []:
            text = patch.get("patch") or (path.parent / patch["path"]).read_text()
            said = yaml.safe_load(text)
            if isinstance(said, list) and _meant(patch.get("target", {}), scaled):
                numbers = [one.get("value") for one in said if one["path"] == f"/spec/{key}"]
                found += [one for one in numbers if one is not None]
            elif isinstance(said, dict) and _meant(patch.get("target", said), scaled):
                found += [said["spec"][key]] if key in said.get("spec", {}) else []
    return [int(one) for one in found]


def _meant(target: dict[str, Any], made: dict[str, Any]) -> bool:
    """Whether a patch is for this: by kind, by name, by `key=value` of labels and annotations."""
    meta = made["metadata"]
    name = target.get("name") or target.get("metadata", {}).get("name", ".*")
    kind = target.get("kind", ".*")
    # An overlay may call it by the name that the base's prefix makes of it.
    named = re.fullmatch(name, meta["name"]) or name.endswith(f"-{meta['name']}")
    fits = bool(named and re.fullmatch(kind, made["kind"]))
    for one in ("label", "annotation"):
        pairs = re.findall(r"([^,!=]+)=([^,]+)", target.get(f"{one}Selector", ""))
        fits = fits and all(meta.get(f"{one}s", {}).get(key) == value for key, value in pairs)
    return fits


def environment(kit: Kit) -> Iterator[tuple[str, str, str]]:
    """Each variable that something below deploy/ sets: where, name, value."""
    for where, line in lines(kit, "deploy/*.env"):
        if found := re.match(r"\s*([A-Z][A-Z0-9_]*)=(.*)", line):
            yield where, found[1], found[2]
    for path, documents in kit.documents(*MANIFESTS).items():
        for document in documents:
            data = document.get("data", {}) if document.get("kind") == "ConfigMap" else {}
            for made in document.get("configMapGenerator", []):
                data = data | dict(pair.split("=", 1) for pair in made.get("literals", []))
            yield from ((at(kit, path), name, str(value)) for name, value in data.items())
    for pod in pods(kit):
        for pair in pod.container.get("env", []):
            yield pod.where, pair["name"], str(pair.get("value", ""))
