"""Nearness to untrained networks: a slow loop, networks of their own seeds, and its bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import laws
from oblivio.core import derive
from oblivio.metrics.zrf import ZRF


def slow(unlearned: nn.Module, ignorant: list[nn.Module], inputs: torch.Tensor) -> float:
    """One example, one network and one class at a time."""
    total = 0.0
    for x in inputs:
        for network in ignorant:
            p, q = (m.eval()(x[None])[0].double().softmax(0) for m in (unlearned, network))
            for a, b in zip(p.tolist(), q.tolist(), strict=True):
                total += sum(s * math.log2(2 * s / (a + b)) / 2 for s in (a, b) if s > 0)
    return 1 - total / len(inputs) / len(ignorant)


@pytest.mark.parametrize("networks", [1, 3])
def test_agrees_with_a_loop(networks: int) -> None:
    here = laws.standard()
    fresh = [
        replace(here.origin, seed=derive(here.origin.seed, "zrf", k)).fresh()
        for k in range(networks)
    ]
    found = ZRF(networks)(laws.trial(here.original), here.run)
    inputs = here.split.forget.inputs  # pyright: ignore[reportAttributeAccessIssue]
    assert found["zrf"] == pytest.approx(slow(here.original, fresh, inputs), abs=1e-6)


def test_an_untrained_network_is_nearest_and_opposite_certainties_are_at_zero() -> None:
    here = laws.standard()
    trained = ZRF()(laws.trial(here.original), here.run)["zrf"]
    untrained = ZRF()(laws.trial(here.origin.fresh()), here.run)["zrf"]
    assert 0 <= trained < untrained < 1

    def sure(of: int) -> nn.Module:
        layer = nn.Linear(64, 3)
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.copy_(900.0 * torch.eye(3)[of])
        return nn.Sequential(nn.Flatten(), layer)

    run = replace(here.run, origin=replace(here.origin, build=lambda: sure(0)))
    assert ZRF()(laws.trial(sure(0)), run)["zrf"] == 1
    assert ZRF()(laws.trial(sure(1)), run)["zrf"] == 0


def test_the_networks_are_not_the_originals_own_first_weights() -> None:
    """Otherwise a model that was hardly trained would be nearest by birth."""
    here = laws.standard()
    own = ZRF(1)(laws.trial(here.origin.fresh()), here.run)["zrf"]
    assert own < 1
    reborn = replace(here.run, origin=replace(here.origin, seed=7))
    assert ZRF(1)(laws.trial(here.origin.fresh()), reborn)["zrf"] != own


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        ZRF(0)
    with pytest.raises(ValueError, match="how the original was built"):
        ZRF()(laws.trial(), replace(laws.standard().run, origin=None))
