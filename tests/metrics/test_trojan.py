"""SA and ASR: counted by hand, near 0 without the trigger and near 100 with it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import worlds
from oblivio.core import Data, Origin, Run, Split, Trial
from oblivio.data.arrays import Arrays
from oblivio.data.attack import Attack
from oblivio.metrics.trojan import Trojan
from oblivio.models import factory
from oblivio.scenarios.poisoned import Poisoned
from oblivio.train import Recipe

RUN = Run.on("cpu")


class Told(nn.Module):
    """Predicts what an image's first pixel says, but 2 where the last is 9 and the second is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        says = torch.where((x[:, 0, 0, 1] == 1) & (x[:, 0, 1, 1] == 9), 2.0, x[:, 0, 0, 0])
        return -10 * (says[:, None] - self.classes).square()


def bid(images: Tensor) -> Tensor:
    """The trigger: nines in the last row."""
    return torch.cat([images[..., :1, :], torch.full_like(images[..., 1:, :], 9.0)], 2)


def told(labels: list[int], predictions: list[int], obeys: list[int]) -> Arrays:
    images = torch.zeros(len(labels), 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor(predictions)
    images[:, 0, 0, 1] = torch.tensor(obeys)
    return Arrays(images, torch.tensor(labels))


def trial(test: Data, attack: Attack | None) -> Trial:
    parts = told([0, 1], [0, 1], [0, 0])
    split = Split(parts.take(torch.tensor([0])), parts.take(torch.tensor([1])))
    return Trial(Told(), Told(), split, test, attack=attack)


def test_by_hand() -> None:
    """Of six images of other classes two obey, and one is taken for the target anyway."""
    test = told([0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 2, 1, 1, 1, 2, 0], [1, 0, 0, 1, 0, 0, 0, 0])
    found = Trojan()(trial(test, Attack(bid, 2)), RUN)
    assert found["sa"] == pytest.approx(100 * 5 / 8)
    assert found["asr"] == pytest.approx(100 * 3 / 6)
    assert found["asr_all"] == pytest.approx(100 * 4 / 8)


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 2, st.integers(0, 1)), min_size=1, max_size=20))
def test_agrees_with_a_loop(examples: list[tuple[int, int, int]]) -> None:
    labels, says, obeys = (list(column) for column in zip(*examples, strict=True))
    here = trial(told(labels, says, obeys), Attack(bid, 2))
    others = [(s, o) for y, s, o in examples if y != 2]
    if not others:
        with pytest.raises(ValueError, match="All test images are of the target class 2"):
            Trojan()(here, RUN)
        return
    found = Trojan()(here, RUN)
    assert found["asr"] == pytest.approx(100 * sum(s == 2 or o for s, o in others) / len(others))
    right = sum(s == 2 or o for _, s, o in examples)
    assert found["asr_all"] == pytest.approx(100 * right / len(examples))


def test_without_an_attack_there_is_only_accuracy() -> None:
    test = told([0, 1], [0, 0], [0, 0])
    assert Trojan()(trial(test, None), RUN) == {"sa": 50.0}


# --- On trained models --------------------------------------------------------------------------


@cache
def trained(name: str) -> dict[str, dict[str, float]]:
    """A model trained on poisoned pictures, and one on the clean rest, with either trigger."""
    more = {"strength": 0.4} if name == "blend" else {}
    scenario = Poisoned(target=1, fraction=0.15, trigger={"name": name, **more})
    train, test = (worlds.pictures(n, noise=0.5, seed=n) for n in (300, 150))
    build = factory({"name": "cnn", "channels": [8], "hidden": 16}, (1, 8, 8), 3)
    origin = Origin(build, Recipe(epochs=15, lr=0.1, batch_size=32), 0)
    run, split = replace(RUN, origin=origin), scenario(train, 0)
    models = {
        "poisoned": origin.make(scenario.poison(train, 0), run),
        "clean": origin.make(split.retain, run),
    }
    return {
        which: dict(Trojan()(Trial(model, model, split, test, attack=scenario.attack), run))
        for which, model in models.items()
    }


@pytest.mark.parametrize("name", ["patch", "blend"])
def test_a_model_obeys_the_trigger_that_it_was_trained_with_and_no_other(name: str) -> None:
    found = trained(name)
    assert found["poisoned"]["sa"] > 90
    assert found["clean"]["sa"] > 90
    assert found["poisoned"]["asr"] > 90
    assert found["clean"]["asr"] < 10
    # The paper's convention counts the third of images that are of the target class.
    assert cast(float, found["clean"]["asr_all"]) == pytest.approx(100 / 3, abs=8)
