"""Closeness is zero for retrain itself, agrees with a loop, and has a null that is not zero."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import laws
from oblivio.core import Outputs
from oblivio.metrics.closeness import Closeness, distance, divergence


def outputs(logits: list[list[float]], labels: list[int]) -> Outputs:
    return Outputs(torch.tensor(logits), torch.tensor(labels))


def test_agrees_with_a_loop_over_examples() -> None:
    torch.manual_seed(0)
    labels = torch.randint(4, (7,))
    a, b = (Outputs(3 * torch.randn(7, 4), labels) for _ in range(2))
    far = apart = 0.0
    for u, v, y in zip(a.logits.double(), b.logits.double(), labels, strict=True):
        p, q = (w.exp() / w.exp().sum() for w in (u, v))
        far += abs(float(p[y] - q[y]))
        for one in (p, q):
            apart += (
                sum(x * math.log2(2 * x / (s + t)) for x, s, t in zip(one, p, q, strict=True)) / 2
            )
    assert distance(a, b) == pytest.approx(100 * far / 7)
    assert divergence(a, b) == pytest.approx(100 * float(apart) / 7)


def test_opposite_certainties_are_as_far_as_can_be() -> None:
    one, two = outputs([[900.0, 0.0]], [0]), outputs([[0.0, 900.0]], [0])
    assert distance(one, two) == divergence(one, two) == 100
    assert distance(one, one) == divergence(one, one) == 0


def test_retrain_is_at_zero_below_the_null_and_the_original_far_above_it() -> None:
    here = laws.standard()
    retrained = Closeness()(laws.trial(), here.run)
    original = Closeness()(laws.trial(here.original), here.run)
    assert retrained["confidence_distance"] == retrained["divergence"] == 0
    for name, null in (
        ("confidence_distance", "confidence_null"),
        ("divergence", "divergence_null"),
    ):
        assert retrained[null] == original[null]
        assert 0 < original[null] < original[name]


def test_needs_an_origin() -> None:
    with pytest.raises(ValueError, match="give the run its origin"):
        Closeness()(laws.trial(), replace(laws.standard().run, origin=None))
