"""The questions are a contract: their names, order and defaults, and what they refuse."""

import ast
import keyword
import sys
import tomllib
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import hygiene
import pytest
import yaml
from cases import DEFAULTS, FACTORS, PLATFORMS
from render import QUESTIONS, ROOT, Generate, Project, render

CONTRACT = {
    "project_name": "invoiceflow",
    "description": "Bills customers and settles their payments.",
    "user_name": "The invoiceflow maintainers",
    **DEFAULTS,
    "image": "ghcr.io/example/invoiceflow",
}
HIDDEN = [question for question, about in QUESTIONS.items() if about.get("when") is False]
UNASKED = {"user_name", "image"}

NAME = "Use lowercase letters, digits and single hyphens, a letter first and at most 40 in all"
TAKEN = "would hide the Python module of that name: choose another, such as"
LINE = "Say it in one line of 1 to 200 characters."
MAINTAINER = "A maintainer is one line of 1 to 100 characters."
IMAGE = "An image is REGISTRY/PATH in lowercase without a tag"

BAD_NAMES = [
    *("", "-", "Orders", "1st", "-orders", "orders-", "my--orders", "my_orders", "my orders"),
    *("my.orders", "bestellungen-für-öl", "注文", "o'orders", '"orders"', "or\\ders", "../orders"),
    *("{{ 7*7 }}", "orders\n", "orders\nmore", "o" * 41, "o" * 200, "or\0ders"),
]
HOSTILE = [
    *("{{ 7*7 }}", "{% raise %}", "{# gone #}", "}} %} #}", "${HOME} $(id) `id` %(here)s %s %%"),
    *('It\'s "quoted"', '"""', "'''", "back\\slash \\n \\", "]] > ]]>", "<b>&lt; [a](b) *c* _d_ |"),
    *("# no comment", "a # b", "key: value", "- item", "-leading", "---", "...", "{}", "[]", "@at"),
    *("true", "null", "~", "123", "0x1f", "2026-01-31", "*anchor", "&anchor", "!tag", "%tag"),
    *("Rechnungen für 請求書 🧾", "a\u00a0b", "\ufeffbom", "right \u202e left", " padded "),
]


def refused(answers: dict[str, Any], destination: Path) -> str:
    """The sentence of the refusal, after which there is nothing on the disk."""
    with pytest.raises((ValueError, TypeError)) as refusal:
        render(answers, destination)
    assert not destination.exists()
    return str(refusal.value)


def test_these_are_the_questions_and_their_defaults(generate: Generate) -> None:
    recorded = yaml.safe_load(generate().read(".copier-answers.yml"))
    assert {key: recorded[key] for key in recorded if not key.startswith("_")} == CONTRACT


def test_they_come_in_this_order_and_most_are_asked() -> None:
    assert [question for question in QUESTIONS if question not in HIDDEN] == list(CONTRACT)
    assert {
        question for question, about in QUESTIONS.items() if about.get("ask") is False
    } == UNASKED


def test_they_offer_these_choices() -> None:
    offered = {
        question: list(about["choices"].values())
        for question, about in QUESTIONS.items()
        if "choices" in about
    }
    sizes = range(len(offered["services"]) + 1)
    several = chain.from_iterable(combinations(offered["services"], size) for size in sizes)
    offered["services"] = list(map(list, several))
    assert offered.pop("platforms") == PLATFORMS
    for question in offered.keys() | FACTORS.keys():
        assert sorted(map(repr, offered[question])) == sorted(map(repr, FACTORS[question]))


@pytest.mark.parametrize("project_name", BAD_NAMES, ids=ascii)
def test_a_name_is_a_dns_label_and_a_python_package(project_name: str, tmp_path: Path) -> None:
    assert NAME in refused({"project_name": project_name}, tmp_path / "service")


@pytest.mark.parametrize("project_name", ["a", "o" * 40, "a1-b2-c3"])
def test_every_other_name_is_taken(project_name: str, tmp_path: Path) -> None:
    project = Project(render({"project_name": project_name}, tmp_path / "service"))
    assert f"src/{project_name.replace('-', '_')}/__init__.py" in project.files()


@pytest.mark.parametrize("project_name", ["class", "match", "json", "email", "fastapi", "tests"])
def test_a_name_hides_no_module(project_name: str, tmp_path: Path) -> None:
    message = refused({"project_name": project_name}, tmp_path / "service")
    assert f"{project_name} {TAKEN} {project_name}-service." in message


def test_every_module_that_a_service_could_hide_is_reserved(generate: Generate) -> None:
    services = ["postgres", "redis", "s3"]
    projects = [generate(services=services, broker=broker) for broker in FACTORS["broker"]]
    sources = [
        project.read(name)
        for project in projects
        for name in project.files()
        if name.endswith(".py")
    ]
    imported = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
        for alias in node.names
    }
    modules = {name.partition(".")[0] for name in imported} - {"invoiceflow"}
    folders = {name.partition("/")[0] for name in projects[0].files() if "/" in name}
    words = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names, *modules, *folders}
    possible = {
        word for word in words if word.isidentifier() and word[0].islower() and word.islower()
    }
    reserved = set(yaml.safe_load((ROOT / "extensions/reserved.yml").read_text()))
    assert possible - reserved == set()


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"flavor": "worker", "services": []}, "takes its jobs from a queue: choose postgres, or"),
        ({"flavor": "both", "services": ["s3"]}, "from a queue: choose postgres, or redis."),
        (
            {"services": ["redis"], "broker": "postgres"},
            "choose postgres among the services, or broker redis.",
        ),
        ({"services": ["redis"], "broker": "rabbitmq"}, "clock last struck: choose postgres too."),
        ({"broker": "redis"}, "choose redis among the services too."),
        ({"flavor": "api", "scheduler": True}, "choose flavor worker or both, or scheduler no."),
        (
            {"flavor": "api", "services": [], "example": True},
            "keeps invoices in PostgreSQL: choose postgres, or example no.",
        ),
        ({"services": ["oracle"]}, "'oracle' is not in ['postgres', 'redis', 's3']"),
        ({"services": "postgres"}, "Not a YAML list: 'postgres'"),
        ({"flavor": "web"}, "'web' is not in ['api', 'worker', 'both']"),
        ({"broker": "kafka"}, "'kafka' is not in ['postgres', 'rabbitmq', 'redis']"),
        ({"scheduler": "maybe"}, "'maybe' is not in [True, False]"),
        ({"example": "maybe"}, "'maybe' is not in [True, False]"),
        ({"kubernetes": "maybe"}, "'maybe' is not in [True, False]"),
        (
            {"platforms": ["nomad"]},
            "'nomad' is not in ['heroku', 'fly', 'ecs', 'systemd', 'terraform']",
        ),
        ({"ci": "jenkins"}, "'jenkins' is not in ['github', 'gitlab']"),
        ({"description": ""}, LINE),
        ({"description": " "}, LINE),
        ({"description": "d" * 201}, LINE),
        ({"description": "two\nlines"}, LINE),
        ({"description": "a bell\a"}, LINE),
        ({"description": "no text \udcff"}, LINE),
        ({"user_name": ""}, MAINTAINER),
        ({"user_name": "u" * 101}, MAINTAINER),
        ({"user_name": "two\u2028lines"}, MAINTAINER),
        ({"user_name": "no text \udcff"}, MAINTAINER),
        ({"image": "orders"}, IMAGE),
        ({"image": "ghcr.io/Example/orders"}, IMAGE),
        ({"image": "ghcr.io/example/orders:1"}, IMAGE),
        ({"image": "ghcr.io/example/orders\n"}, IMAGE),
        ({"image": "https://ghcr.io/example/orders"}, IMAGE),
        ({"image": f"ghcr.io/{'o' * 200}"}, IMAGE),
    ],
    ids=ascii,
)
def test_wrong_answers_are_refused(answers: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    assert sentence in refused(answers, tmp_path / "service")


@pytest.mark.parametrize("question", HIDDEN)
def test_what_is_computed_cannot_be_answered(question: str, tmp_path: Path) -> None:
    message = refused({question: "{}"}, tmp_path / "service")
    assert question in message
    assert message.endswith("cannot be answered.")


def test_a_misspelt_question_is_not_ignored_here(generate: Generate) -> None:
    with pytest.raises(TypeError, match="No such question: servcies"):
        generate(servcies=[])


@pytest.mark.parametrize("words", HOSTILE, ids=ascii)
def test_words_arrive_as_they_were_typed(words: str, tmp_path: Path) -> None:
    answers = {"description": words, "user_name": words}
    project = Project(render(answers, tmp_path / "service"))
    about = tomllib.loads(project.read("pyproject.toml"))["project"]
    assert (about["description"], about["authors"]) == (words, [{"name": words}])
    assert answers.items() <= yaml.safe_load(project.read(".copier-answers.yml")).items()
    tree = project.tree()
    assert [fault for name in tree for fault in hygiene.faults(name, tree[name])] == []
