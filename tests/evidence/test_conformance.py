"""What every measure must say of methods that are known to have forgotten all, nothing or half."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import laws
from conformance import PLANTED, last_layer, remembered
from oblivio.core import predict, unlearn


@pytest.mark.parametrize("class_wise", [False, True])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_forgetters_are_methods(name: str, class_wise: bool) -> None:
    here = laws.standard("mlp", class_wise=class_wise)
    one, two = (unlearn(PLANTED[name], here.original, here.split, here.run).model for _ in range(2))
    laws.assert_same_state(one.state_dict(), two.state_dict())
    assert laws.differs(one, here.original) == (name != "does_nothing")
    other = replace(here.run, origin=replace(here.origin, seed=9))
    seedless = name == "does_nothing" or (name == "keeps_features" and class_wise)
    another = unlearn(PLANTED[name], here.original, here.split, other).model
    assert laws.differs(one, another) != seedless


def test_the_feature_keeper_changes_its_last_layer_alone() -> None:
    for class_wise in (False, True):
        here = laws.standard("mlp", class_wise=class_wise)
        model = unlearn(PLANTED["keeps_features"], here.original, here.split, here.run).model
        name, _ = last_layer(model)
        changed = {
            key
            for key, value in model.state_dict().items()
            if not torch.equal(value, here.original.state_dict()[key])
        }
        assert changed == {f"{name}.weight", f"{name}.bias"}
        outputs = predict(model, here.split.forget)
        if class_wise:
            assert not bool((outputs.logits.argmax(1) == outputs.labels).any())


def test_the_half_forgetter_remembers_about_half() -> None:
    kept = remembered(torch.arange(1000))
    assert 450 < int(kept.sum()) < 550
    here = laws.standard("mlp")
    outputs = predict(
        unlearn(PLANTED["forgets_half"], here.original, here.split, here.run).model,
        here.split.forget,
    )
    right = outputs.logits.argmax(1) == outputs.labels
    kept = remembered(here.split.forget.ids)
    assert 0 < int(kept.sum()) < len(kept)
    assert bool(right[kept].all())
    assert float(right[~kept].double().mean()) < 0.5
