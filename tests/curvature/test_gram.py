"""Solves agree with the dense matrix and with WoodFisher's recursion, however they are cut up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import laws
import oracles_influence
import worlds
from oblivio.curvature import gradients, gram
from oblivio.curvature.gram import softmax_columns, solve
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask
from oblivio.train import Loss

DAMPING = 0.02
MEMORY = {
    ("empirical", "kept"): 2**31,
    ("empirical", "anew"): 2**13,
    ("ggn", "kept"): 2**31,
    ("ggn", "anew"): 40_000,  # room for the matrix of 69 × 69, but not for the rows
}


def network() -> nn.Module:
    """119 weights: convolution, BatchNorm, linear layers; smooth, so that types compare."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    )


def small(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Arrays, Tensor]:
    """A network with statistics of its own, 23 examples, and a vector."""
    data = worlds.pictures(23, 3, (1, 6, 6), dtype=torch.float64)
    model = network().double()
    model(data.inputs)
    size = sum(p.numel() for p in model.parameters())
    v = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return model.to(dtype).eval(), Arrays(data.inputs.to(dtype), data.labels), v


def dense(kind: str, model: nn.Module, data: Arrays) -> tuple[Tensor, Sequence[Loss]]:
    if kind == "ggn":
        return oracles_influence.gauss_newton(model, data, DAMPING), softmax_columns(3)
    rows = oracles_influence.per_example(model, data, F.cross_entropy)
    return oracles_influence.fisher(rows, DAMPING), (F.cross_entropy,)


def apart(one: Tensor, two: Tensor) -> float:
    assert one.dtype == torch.float64
    return float((one - two).norm() / two.norm())


@pytest.mark.parametrize("memory", ["kept", "anew"])
@pytest.mark.parametrize("kind", ["empirical", "ggn"])
def test_agrees_with_the_dense_solve(kind: str, memory: str) -> None:
    model, data, v = small()
    matrix, columns = dense(kind, model, data)
    before = laws.snapshot(model)
    found = solve(model, [data], v, DAMPING, columns=columns, memory=MEMORY[kind, memory])
    assert apart(found, torch.linalg.solve(matrix, v)) < 1e-10
    laws.assert_same(before, laws.snapshot(model))


def test_agrees_with_wood_fishers_recursion() -> None:
    model, data, v = small()
    rows = oracles_influence.per_example(model, data, F.cross_entropy)
    expected = oracles_influence.wood_fisher(rows, DAMPING) @ v
    assert apart(solve(model, [data], v, DAMPING), expected) < 1e-10


@pytest.mark.parametrize("damping", [1e-4, 1.0])
def test_is_right_at_any_damping(damping: float) -> None:
    model, data, v = small()
    rows = oracles_influence.per_example(model, data, F.cross_entropy)
    expected = torch.linalg.solve(oracles_influence.fisher(rows, damping), v)
    assert apart(solve(model, [data], v, damping), expected) < 1e-10


def test_depends_neither_on_chunks_nor_on_order_nor_on_how_the_data_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, data, v = small()
    expected = solve(model, [data], v, DAMPING)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(2))
    cut = [data.take(order[:9]), data.take(order[:0]), data.take(order[9:])]
    monkeypatch.setattr(gram, "BLOCK", 7)
    monkeypatch.setattr(gram, "SLAB", 5)
    for chunk in (1, 4, 100):
        for memory in (2**31, 2**13):
            found = solve(model, cut, v, DAMPING, chunk=chunk, memory=memory)
            assert apart(found, expected) < 1e-12


def test_rows_are_computed_anew_only_where_they_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, v = small()
    seen: list[int] = []
    rows = gram.rows

    def counted(model: nn.Module, inputs: Tensor, *rest: object) -> gradients.Rows:
        seen.append(len(inputs))
        return rows(model, inputs, *rest)  # pyright: ignore

    monkeypatch.setattr(gram, "rows", counted)
    solve(model, [data], v, DAMPING)
    assert sum(seen) == 1 + 23  # the first to learn the size
    seen.clear()
    solve(model, [data], v, DAMPING, memory=2**13)
    assert sum(seen) > 2 * 23
    assert max(seen) < 8  # at least three blocks, of which two fit into 8 KiB


def test_single_precision_is_near_double_precision() -> None:
    model, data, v = small(torch.float32)
    expected = solve(*(lambda m, d, v: (m, [d], v))(*small()), DAMPING)
    assert apart(solve(model, [data], v.float(), DAMPING), expected) < 1e-4


@pytest.mark.parametrize("kind", ["empirical", "ggn"])
def test_a_mask_leaves_only_the_kept_coordinates(kind: str) -> None:
    model, data, v = small()
    draw = torch.Generator().manual_seed(3)
    keep = {
        n: torch.rand(model.get_parameter(n).shape, generator=draw) > 0.7
        for n in ("0.weight", "5.weight")
    }
    mask = Mask(keep)
    mask.apply(model)
    flat = gradients.flat_mask(model, mask)
    matrix, columns = dense(kind, model, data)
    expected = torch.linalg.solve(matrix[flat][:, flat], v[flat])
    for memory in ("kept", "anew"):
        bytes_ = MEMORY[kind, memory]
        found = solve(model, [data], v, DAMPING, columns=columns, mask=mask, memory=bytes_)
        assert torch.equal(found[~flat], torch.zeros_like(found[~flat]))
        assert apart(found[flat], expected) < 1e-10
    # Zeros put into the full solution would be another answer.
    assert apart(torch.linalg.solve(matrix, v)[flat], expected) > 1e-3


def test_a_layer_without_weights_is_no_obstacle() -> None:
    model, data, v = small()
    mask = Mask({"5.weight": torch.zeros(5, 12, dtype=torch.bool)})
    found = gradients.unflatten(model, solve(model, [data], v, DAMPING, mask=mask))
    assert not bool(found["5.weight"].any())


def test_bad_input_is_refused(unchecked: None) -> None:
    model, data, v = small()
    for damping in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"damping = \S+ must be above 0"):
            solve(model, [data], v, damping)
    with pytest.raises(ValueError, match="no examples"):
        solve(model, [], v, DAMPING)
    with pytest.raises(ValueError, match="has 7 numbers, but the model has"):
        solve(model, [data], v[:7], DAMPING)
    with pytest.raises(ValueError, match="take at most 7 examples"):
        solve(model, [data], v, DAMPING, columns=softmax_columns(3), memory=8 * 22**2)
    with pytest.raises(FloatingPointError, match="raise the damping"):
        solve(model, [data.take(torch.zeros(20, dtype=torch.int64))], v, 1e-30)
    with torch.no_grad():
        model.get_parameter("7.bias").fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        solve(model, [data], v, DAMPING)
