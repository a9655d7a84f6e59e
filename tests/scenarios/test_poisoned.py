"""What is poisoned, how it is chosen, and that the split parts exactly what is trained on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import laws
import worlds
from oblivio.catalogue import build, settings_of
from oblivio.scenarios.poisoned import Poisoned

PATCH = {"name": "patch", "size": 2}


@given(
    target=st.integers(0, 2),
    fraction=st.floats(0.02, 0.6),
    seed=st.integers(0, 2**63 - 1),
)
def test_poisoned_images_are_of_other_classes_and_all_others_stay_clean(
    target: int, fraction: float, seed: int
) -> None:
    train = worlds.pictures(60)
    scenario = Poisoned(target, fraction, trigger=PATCH)
    split, poisoned = scenario(train, seed), scenario.poison(train, seed)
    assert len(split.forget) == round(fraction * 60)
    assert bool((split.forget.labels == target).all())
    position = {id_: row for row, id_ in enumerate(train.ids.tolist())}
    rows = torch.tensor([position[id_] for id_ in split.forget.ids.tolist()])
    assert not bool((train.labels[rows] == target).any())
    assert torch.equal(split.forget.inputs, scenario.attack.trigger(train.inputs[rows]))  # pyright: ignore
    kept = torch.tensor([position[id_] for id_ in split.retain.ids.tolist()])
    assert torch.equal(split.retain.inputs, train.inputs[kept])  # pyright: ignore
    assert torch.equal(split.retain.labels, train.labels[kept])
    assert torch.equal(poisoned.inputs[rows], split.forget.inputs)  # pyright: ignore
    assert torch.equal(poisoned.inputs[kept], split.retain.inputs)  # pyright: ignore
    assert torch.equal(poisoned.ids, train.ids)


def test_every_image_of_another_class_is_drawn_as_often() -> None:
    """Over 2,000 draws of 5 from 20, each count is binomial, within five standard deviations."""
    train, counts = worlds.pictures(30, shape=(1, 2, 2)), torch.zeros(200)
    for seed in laws.seeds(2000):
        counts[Poisoned(1, count=5, trigger=PATCH)(train, seed).forget.ids] += 1
    drawn = counts[train.ids]
    assert bool((drawn[train.labels == 1] == 0).all())
    assert float((drawn[train.labels != 1] - 500).abs().max()) < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_the_draw_depends_on_the_seed_alone() -> None:
    """Not on the trigger: two triggers are compared on the very same images."""
    train = worlds.pictures(60)
    digests = {Poisoned()(train, seed).digest for seed in laws.seeds(10)}
    assert len(digests) == 10
    assert Poisoned()(train, 4).digest == Poisoned(trigger={"name": "blend"})(train, 4).digest


def test_settings_are_written_out() -> None:
    scenario = Poisoned(trigger=PATCH)
    assert scenario.fraction == 0.1
    assert scenario.trigger["place"] == "bottom right"
    assert build(Poisoned, settings_of(scenario)) == scenario


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"fraction": 0.0}, "between 0 and 1"),
        ({"fraction": 1.0}, "between 0 and 1"),
        ({"count": 0}, "1 or more"),
        ({"fraction": 0.1, "count": 1}, "not both"),
        ({"target": -1}, "must be 0 or more"),
        ({"trigger": {"name": "patsh"}}, "Did you mean patch"),
        ({"trigger": {"name": "patch", "size": 0}}, "size = 0"),
        ({"trigger": {}}, "needs a name"),
    ],
)
def test_rejects(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Poisoned(**settings)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"target": 3}, "No training example has the target 3; there are 0, 1, 2"),
        ({"count": 40}, "40 images cannot be poisoned: 40 of the 60 are not of the target class 0"),
        ({"fraction": 0.9}, "54 images cannot be poisoned"),
        ({"fraction": 0.001}, "0 images cannot be poisoned"),
        ({"trigger": {"name": "patch", "size": 9}}, "does not fit images of 8×8"),
    ],
)
def test_says_what_the_data_do_not_allow(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Poisoned(**settings)(worlds.pictures(60), 0)


@pytest.mark.usefixtures("unchecked")
def test_vectors_bear_no_trigger() -> None:
    with pytest.raises(ValueError, match="A trigger goes on images"):
        Poisoned()(worlds.pictures(60, shape=(5,)), 0)
