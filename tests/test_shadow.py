"""What many models say: margins, parts, pairs, nulls and ceilings."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oblivio.core import Outputs
from oblivio.shadow import Answers, Shadows, answers
from worlds import crowd


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 1000))
def test_the_margin_is_the_log_odds_of_the_true_class(classes, n, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(n, classes, generator=draw, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=draw)
    found = answers(Outputs(logits.float(), labels))
    for i, (row, y) in enumerate(
        zip(logits.float().double().tolist(), labels.tolist(), strict=True)
    ):
        total = sum(map(math.exp, row))
        p = math.exp(row[y]) / total
        rest = sum(math.exp(z) for c, z in enumerate(row) if c != y) / total
        assert found.margins[0, i].item() == pytest.approx(math.log(p) - math.log(rest), abs=1e-9)
        assert found.right[0, i].item() == (row[y] == max(row))


def test_a_saturated_model_has_a_finite_margin():
    sure = Outputs(torch.tensor([[500.0, -500.0, 0.0]]), torch.tensor([0]))
    assert answers(sure).margins.item() == pytest.approx(500.0)


def test_parts_stand_one_after_another():
    shadows = crowd(forget=3, retain=4, test=2)
    assert shadows.points("forget").tolist() == [0, 1, 2]
    assert shadows.points("retain").tolist() == [3, 4, 5, 6]
    assert shadows.points("test").tolist() == [7, 8]
    assert shadows.of("original", "retain").margins.shape == (8, 4)


def test_pairs_are_of_shadows_that_saw_the_point():
    shadows = crowd(models=8, forget=5, design="halves")
    unlearned, retrained = shadows.versus()
    assert unlearned.shape == retrained.shape == (4, 5)
    for point in range(5):
        saw = torch.where(shadows.seen[:, point])[0]
        assert torch.equal(unlearned[:, point], shadows.unlearned.margins[saw, point])
        assert torch.equal(retrained[:, point], shadows.retrained.margins[saw, point])


def test_all_shadows_of_a_fixed_design_are_pairs():
    shadows = crowd(models=6, forget=5)
    unlearned, retrained = shadows.versus()
    assert torch.equal(unlearned, shadows.unlearned.margins[:, :5])
    assert torch.equal(retrained, shadows.retrained.margins[:, :5])


def test_some_models_and_some_points():
    shadows = crowd(models=6, forget=3, retain=4, test=2)
    few = shadows.take(torch.tensor([4, 0])).at(torch.tensor([0, 2, 3, 3, 8]))
    assert len(few) == 2
    assert few.counts == (2, 2, 1)
    assert few.ids.tolist() == shadows.ids[[0, 2, 3, 3, 8]].tolist()
    assert torch.equal(few.again.margins, shadows.again.margins[[4, 0]][:, [0, 2, 3, 3, 8]])


def test_the_null_compares_retrained_models_and_the_ceiling_originals():
    shadows = crowd()
    assert torch.equal(shadows.null().unlearned.margins, shadows.again.margins)
    assert torch.equal(shadows.null().retrained.margins, shadows.retrained.margins)
    assert torch.equal(shadows.ceiling().unlearned.margins, shadows.original.margins)
    swap = torch.arange(len(shadows)) % 2 == 0
    other = shadows.null(swap)
    assert torch.equal(other.unlearned.margins[::2], shadows.retrained.margins[::2])
    assert torch.equal(other.unlearned.margins[1::2], shadows.again.margins[1::2])
    assert torch.equal(other.retrained.right[::2], shadows.again.right[::2])


def test_without_models_retrained_once_more_there_is_no_null():
    shadows = crowd()
    lone = Shadows(
        shadows.design,
        shadows.ids,
        shadows.labels,
        shadows.counts,
        shadows.seen,
        shadows.original,
        shadows.unlearned,
        shadows.retrained,
    )
    with pytest.raises(ValueError, match="a number without its null says nothing"):
        lone.null()


def test_shapes_that_do_not_go_together_are_refused():
    shadows = crowd(models=4)
    short = Answers(shadows.unlearned.margins[:2], shadows.unlearned.right[:2])
    parts = (shadows.design, shadows.ids, shadows.labels, shadows.counts, shadows.seen)
    with pytest.raises(ValueError, match="unlearned models' answers have shape"):
        Shadows(*parts, shadows.original, short, shadows.retrained)
    with pytest.raises(ValueError, match="must be of the same points"):
        Shadows(*parts[:3], (1, 1, 1), shadows.seen, *[shadows.original] * 3)
