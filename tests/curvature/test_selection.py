"""The choice of weights agrees with a plain sort, and its account with a plain count."""

from __future__ import annotations

import json
import math
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oblivio.curvature.selection import (
    EDGES,
    check_influence,
    choose,
    cut,
    explanation,
    ratio,
    share_of,
)
from oblivio.mask import Mask

Values = dict[str, Tensor]
few = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 3.0, math.inf])
rows = st.lists(st.lists(few, min_size=1, max_size=9), min_size=1, max_size=4)


def named(lists: list[list[float]]) -> Values:
    return {f"w{i}": torch.tensor(row, dtype=torch.float64) for i, row in enumerate(lists)}


def plainly(row: list[float], keep: list[bool], share: float) -> list[bool]:
    """The largest by a sort that keeps the order of equals, none of them 0."""
    order = sorted((i for i in range(len(row)) if keep[i]), key=lambda i: -row[i])
    best = [i for i in order[: round(share * sum(keep))] if row[i] > 0]
    return [i in best for i in range(len(row))]


@given(lists=rows, share=st.floats(0.01, 0.99), layerwise=st.booleans(), seed=st.integers(0, 9))
def test_a_share_is_what_a_sort_gives(
    lists: list[list[float]], share: float, layerwise: bool, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    values = named(lists)
    keep = {n: torch.rand(v.shape, generator=draw) < 0.7 for n, v in values.items()}
    if seed % 2:
        keep = {n: torch.ones_like(k) for n, k in keep.items()}
    mask = None if seed % 2 else Mask(keep)
    chosen = choose(values, share=share, layerwise=layerwise, mask=mask)
    stays = [k.tolist() for k in keep.values()]
    if layerwise:
        expected = [plainly(row, k, share) for row, k in zip(lists, stays, strict=True)]
    else:
        flat = plainly([*chain(*lists)], [*chain(*stays)], share)
        expected = [[flat.pop(0) for _ in row] for row in lists]
    assert [some.tolist() for some in chosen.values()] == expected


@given(lists=rows, threshold=st.floats(0.1, 4.0))
def test_a_threshold_is_exceeded(lists: list[list[float]], threshold: float) -> None:
    chosen = choose(named(lists), threshold=threshold)
    assert [c.tolist() for c in chosen.values()] == [[v > threshold for v in r] for r in lists]


def test_many_weights_are_chosen_as_by_a_sort() -> None:
    torch.manual_seed(0)
    values = {"a": torch.rand(300, 40).double(), "b": torch.rand(5000).double() ** 2}
    chosen = choose(values, share=0.013)
    flat = torch.cat([v.flatten() for v in values.values()])
    best = flat.argsort(descending=True)[: round(0.013 * len(flat))]
    found = torch.cat([c.flatten() for c in chosen.values()])
    assert torch.equal(torch.where(found)[0], best.sort().values)
    assert chosen["a"].shape == (300, 40)
    assert cut(values, chosen) == float(flat[best].min())
    assert share_of(chosen) == round(0.013 * len(flat)) / len(flat)


def test_a_mask_names_what_it_wants_and_no_more() -> None:
    values = named([[1.0, 9.0], [3.0, 4.0]])
    chosen = choose(values, threshold=0.5, mask=Mask({"w0": torch.tensor([True, False])}))
    assert [c.tolist() for c in chosen.values()] == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({}, "neither is given"),
        ({"share": 0.5, "threshold": 1.0}, "both are given"),
        ({"share": 0.0}, "share = 0 must lie"),
        ({"share": 1.0}, "share = 1 must lie between 0 and 1; 1 % is 0.01"),
        ({"share": 5.0}, "5 % is 0.05"),
        ({"share": -0.1}, "share = -0.1 must"),
        ({"share": math.nan}, "share = nan must"),
        ({"threshold": 0.0}, "threshold = 0 must"),
        ({"threshold": -1.0}, "threshold = -1 must"),
        ({"threshold": math.inf}, "threshold = inf must"),
        ({"threshold": math.nan}, "threshold = nan must"),
    ],
)
def test_extents_that_make_no_sense_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        choose(named([[1.0, 2.0]]), **settings)


def test_nan_is_refused_by_name() -> None:
    values = named([[1.0, 2.0], [1.0, math.nan]])
    for settings in ({"share": 0.5}, {"threshold": 1.0}):
        with pytest.raises(ValueError, match="of w1 is NaN"):
            choose(values, **settings)


# --- Ratios -------------------------------------------------------------------------------------


def test_ratios_with_zeros() -> None:
    found = ratio(named([[0.0, 0.0, 2.0, 6.0]]), named([[0.0, 1.0, 0.0, 4.0]]))
    assert found["w0"].tolist() == [0, 0, math.inf, 1.5]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_diagonal_that_is_not_finite_is_refused_by_name(wrong: float, place: int) -> None:
    pair = [named([[1.0], [1.0]]), named([[1.0], [1.0]])]
    pair[place]["w1"][0] = wrong
    with pytest.raises(ValueError, match="diagonal of w1 holds numbers that are not finite"):
        ratio(*pair)


def test_layers_without_influence_are_named() -> None:
    check_influence(named([[0.0, 1e-300], [1.0]]))
    with pytest.raises(ValueError, match="zero throughout w0, w2, w3 and 1 more"):
        check_influence(named([[0.0, 0.0], [1.0], [0.0], [0.0], [0.0]]))


# --- The account --------------------------------------------------------------------------------


def account(share: float = 0.2) -> tuple[nn.Module, Values, Values, dict[str, Any]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 9, 3), nn.Flatten(), nn.Linear(36, 5))
    draw = torch.Generator().manual_seed(1)
    values = {}
    for name, weight in model.named_parameters():
        some = 10 ** (3 * torch.randn(weight.shape, generator=draw, dtype=torch.float64))
        some.view(-1)[::7] = 0
        some.view(-1)[1::31] = math.inf
        values[name] = some
    chosen = choose(values, share=share)
    return model, values, chosen, explanation(model, values, chosen, cut(values, chosen))


def test_layers_stand_in_the_models_order_with_their_counts() -> None:
    model, _, chosen, told = account()
    expected = [[n, int(chosen[n].sum()), p.numel()] for n, p in model.named_parameters()]
    assert told["layers"] == expected
    assert sum(row[1] for row in expected) > 0


def test_the_histogram_counts_every_weight_once() -> None:
    _, values, chosen, told = account()
    flat = torch.cat([v.flatten() for v in values.values()]).tolist()
    picked = torch.cat([chosen[n].flatten() for n in values]).tolist()
    histogram = told["histogram"]
    assert histogram["edges"] == list(EDGES)
    expected = {"all": [0] * (len(EDGES) - 1), "chosen": [0] * (len(EDGES) - 1)}
    for value, is_chosen in zip(flat, picked, strict=True):
        if 0 < value < math.inf:
            inner = [i for i, edge in enumerate(EDGES[1:-1]) if math.log10(value) >= edge]
            place = inner[-1] + 1 if inner else 0
            expected["all"][place] += 1
            expected["chosen"][place] += is_chosen
    assert histogram["counts"] == expected
    assert histogram["zero"] == flat.count(0.0)
    assert histogram["infinite"] == flat.count(math.inf)
    total = sum(expected["all"]) + histogram["zero"] + histogram["infinite"]
    assert total == len(flat)
    assert expected["all"][0] > 0  # what lies beyond the edges is there
    assert histogram["threshold"] == min(v for v, c in zip(flat, picked, strict=True) if c)


def test_filters_are_those_of_which_most_is_chosen() -> None:
    _, values, chosen, told = account()
    rows = []
    for name, value in values.items():
        if value.ndim > 1:
            for index in range(len(value)):
                row, some = value[index].flatten(), chosen[name][index].flatten()
                median = row.sort().values[(len(row) - 1) // 2].item()
                rows.append(
                    [name, index, int(some.sum()), len(row), median if median < math.inf else None]
                )
    rows = [row for row in rows if row[2]]
    rows.sort(key=lambda row: -row[2] / row[3])
    assert len(rows) > 12
    found = told["filters"]
    assert len(found) == min(12, len(rows))
    assert [row[2] / row[3] for row in found] == [row[2] / row[3] for row in rows[:12]]
    assert all(row in rows for row in found)


def test_the_account_is_plain_data_and_can_be_empty() -> None:
    model, values, _, told = account()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    nothing = {n: torch.zeros_like(v) for n, v in values.items()}
    chosen = choose(nothing, share=0.5)
    assert cut(nothing, chosen) is None
    assert share_of(chosen) == 0
    empty = explanation(model, nothing, chosen, None)
    assert empty["filters"] == []
    assert empty["histogram"]["zero"] == sum(v.numel() for v in values.values())
    assert empty["histogram"]["threshold"] is None
    assert sum(empty["histogram"]["counts"]["all"]) == 0


def test_a_cut_at_infinity_is_none() -> None:
    values = named([[math.inf, 1.0]])
    assert cut(values, choose(values, share=0.5)) is None
