"""An option that is offered has an effect."""

from itertools import combinations

import pytest
from cases import FACTORS, PROFILES, Answers, name, pairs, pairwise, valid, valid_sets
from render import Generate

# A question with one choice has nothing to differ from until it has two.
CHOICES = [question for question, choices in FACTORS.items() if len(choices) > 1] + ["platforms"]


def emitted(generate: Generate, answers: Answers) -> dict[str, str]:
    tree = generate(**answers).tree()
    del tree[".copier-answers.yml"]
    return tree


@pytest.mark.xdist_group("all")
@pytest.mark.parametrize("question", CHOICES)
def test_every_choice_changes_the_tree(generate: Generate, question: str) -> None:
    rivals = [
        (one, other)
        for one, other in combinations(valid_sets(), 2)
        if {key for key in one if one[key] != other[key]} == {question}
    ]
    assert rivals
    for one, other in rivals:
        assert emitted(generate, one) != emitted(generate, other), f"{name(one)} = {name(other)}"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("project_name", "parcel-desk"),
        ("description", "Sends parcels."),
        ("user_name", "The parcel desk"),
        ("image", "registry.example/parcels"),
    ],
)
def test_every_word_changes_the_tree(generate: Generate, question: str, answer: str) -> None:
    tree = emitted(generate, {question: answer})
    assert tree != emitted(generate, {})
    assert any(answer in text for text in tree.values())


def test_the_pairwise_cover_leaves_no_pair_out() -> None:
    assert set().union(*map(pairs, pairwise())) == set().union(*map(pairs, valid_sets()))
    assert len(pairwise()) < len(valid_sets()) / 4


def test_the_profiles_are_valid() -> None:
    assert [name for name, answers in PROFILES.items() if not valid(answers)] == []
