"""Tug of war by hand: 1 for retrain, a product of three distances otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import laws
import oracles
import worlds
from oblivio.core import Data, Split, Trial
from oblivio.metrics.tow import ToW


def share(model: nn.Module, data: Data) -> float:
    """Accuracy by a loop."""
    return oracles.percent_right(model(data.inputs), data.labels) / 100  # pyright: ignore


@pytest.mark.parametrize("class_wise", [False, True])
def test_by_hand(class_wise: bool) -> None:
    here = laws.standard(class_wise=class_wise)
    trial = laws.trial(here.origin.fresh().eval(), class_wise=class_wise)
    retrained = here.origin.make(here.split.retain, here.run)
    expected = 1.0
    for part in (here.split.forget, here.split.retain, trial.unseen):
        expected *= 1 - abs(share(trial.unlearned, part) - share(retrained, part))
    assert expected < 0.8
    assert ToW()(trial, here.run)["tow"] == pytest.approx(expected)


def test_retrain_has_one_and_the_original_less() -> None:
    here = laws.standard()
    assert ToW()(laws.trial(), here.run) == {"tow": 1.0}
    assert ToW()(laws.trial(here.original), here.run)["tow"] < 0.5


def test_what_is_missing_is_said() -> None:
    here = laws.trial(class_wise=True)
    with pytest.raises(ValueError, match="ToW compares with a retrained model"):
        ToW()(here, replace(laws.standard().run, origin=None))
    only = worlds.pictures(6).take(torch.tensor([2, 5]))
    with pytest.raises(ValueError, match="give test data of other classes too"):
        ToW()(replace(here, test=only), laws.standard(class_wise=True).run)


def test_one_example_is_enough() -> None:
    here = laws.standard()
    split = Split.of(here.split.retain, here.split.retain.ids[:1])
    trial = Trial(here.original, here.origin.make(split.retain, here.run), split, here.test)
    assert ToW()(trial, here.run) == {"tow": 1.0}
