"""How well a model serves another task: against by hand, and what it needs."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

import laws
from oblivio.core import Run
from oblivio.data.source import load
from oblivio.methods.fine_tune import FineTune
from oblivio.metrics import transfer
from oblivio.metrics.transfer import Transfer
from oblivio.prune import Pruned
from oblivio.prune.magnitude import Magnitude
from oblivio.train import Recipe

PART = {"name": "part", "classes": [0, 1, 2], "train": 30, "test": 90}
SHORT = Recipe(epochs=5, lr=0.05, batch_size=16)
METRIC = Transfer(PART, SHORT, SHORT)


def test_what_has_learned_the_target_before_serves_it_better_than_nothing() -> None:
    here = laws.standard()
    learned = here.origin.make(load({**PART, "train": 300}).train, here.run)
    found = METRIC(laws.trial(learned), here.run)
    assert found["transfer_probe"] > 90
    assert found["transfer_full"] > found["transfer_scratch"]


def test_the_network_before_its_first_step_is_its_own_scratch() -> None:
    here = laws.standard()
    found = METRIC(laws.trial(here.origin.fresh()), here.run)
    assert found["transfer_full"] == found["transfer_scratch"]


def test_a_pruned_model_stays_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def listen(model, *given, sparse=False):
        asked.append(sparse)
        return original(model, *given, sparse=sparse)

    original = transfer.tuned
    monkeypatch.setattr(transfer, "tuned", listen)
    here = laws.standard()
    model = copy.deepcopy(here.original)
    Magnitude(0.5)(model, here.test, here.run).apply(model)
    METRIC(replace(laws.trial(model), method=Pruned(Magnitude(0.5), FineTune())), here.run)
    METRIC(laws.trial(model), here.run)
    assert asked == [True, False, False, False]


@pytest.mark.usefixtures("unchecked")
def test_says_what_does_not_suit() -> None:
    trial, run = laws.trial(), laws.standard().run
    with pytest.raises(ValueError, match="Transfer compares with a network"):
        METRIC(trial, Run.on("cpu"))
    with pytest.raises(ValueError, match=r"inputs are 1×4×4, those of the source 1×8×8.*size = 8"):
        Transfer({**PART, "size": 4})(trial, run)
    with pytest.raises(ValueError, match="Did you mean digits"):
        Transfer({"name": "digts"})
    headless = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 8), torch.nn.Flatten())
    with pytest.raises(ValueError, match="none to replace"):
        METRIC(laws.trial(headless), run)
