"""The template through pytest-copie: what a first look at a generated service finds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cases import DEFAULTS
from pytest_copie.plugin import Copie, Result
from render import QUESTIONS, work_tree


@pytest.fixture
def copy(copie: Copie) -> Callable[..., Result]:
    """pytest-copie ignores a misspelt question, and trusts what people would be asked to trust.

    The first is refused here; test_cli.py copies as they do, without trust.
    """

    def copy(**answers: object) -> Result:
        assert answers.keys() <= QUESTIONS.keys()
        return copie.copy(answers, work_tree())

    return copy


def made(result: Result) -> Path:
    assert result.exception is None
    assert result.project_dir
    return result.project_dir


def test_the_defaults_make_every_process_type(copy: Callable[..., Result]) -> None:
    processes = yaml.safe_load((made(copy()) / "Procfile").read_text())
    assert processes.keys() == {"web", "worker", "clock", "deadletters", "release", "console"}
    assert processes["web"] == "python -m invoiceflow web"


def test_the_answers_are_recorded_for_updates(copy: Callable[..., Result]) -> None:
    result = copy(project_name="parcel-desk")
    recorded = yaml.safe_load((made(result) / ".copier-answers.yml").read_text())
    assert result.answers.items() <= recorded.items()
    assert {
        question: recorded[question] for question in ["project_name", *DEFAULTS]
    } == DEFAULTS | {"project_name": "parcel-desk"}


def test_an_api_alone_attaches_nothing(copy: Callable[..., Result]) -> None:
    service = made(copy(flavor="api", services=[]))
    assert yaml.safe_load((service / "compose.yaml").read_text())["services"].keys() == {"web"}
    assert "DATABASE_URL" not in (service / ".env.example").read_text()


def test_a_worker_alone_serves_no_requests(copy: Callable[..., Result]) -> None:
    service = made(copy(flavor="worker"))
    assert not (service / "src/invoiceflow/web.py").exists()
    assert "web" not in yaml.safe_load((service / "Procfile").read_text())


def test_the_example_can_be_left_out(copy: Callable[..., Result]) -> None:
    service = made(copy(example=False))
    assert not list(service.rglob("invoices*"))


def test_a_worker_without_a_queue_is_refused(copy: Callable[..., Result]) -> None:
    result = copy(flavor="worker", services=[])
    assert "A worker takes its jobs from a queue: choose postgres, or redis." in str(
        result.exception
    )
