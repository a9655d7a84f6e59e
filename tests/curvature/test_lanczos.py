"""The largest eigenvalue agrees with a dense float64 Hessian, masked or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import laws
import oracles_fisher
import worlds
from oblivio.curvature.lanczos import largest_eigenvalue
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask, prunable


def small(seed: int = 0) -> tuple[nn.Module, Arrays]:
    """A network with BatchNorm and convolution, in float64, and data."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.Tanh(),
        nn.Linear(4, 3),
    )
    data = worlds.pictures(12, 3, (1, 6, 6), dtype=torch.float64)
    return model.double().eval(), data


def half(model: nn.Module, seed: int = 0) -> Mask:
    draw = torch.Generator().manual_seed(seed)
    weights = prunable(model)
    return Mask({n: torch.rand(w.shape, generator=draw) < 0.5 for n, w in weights.items()})


def truth(model: nn.Module, data: Arrays, mask: Mask | None = None) -> float:
    values = torch.linalg.eigvalsh(oracles_fisher.hessian(model, data, mask))
    return float(values[values.abs().argmax()])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masked", [False, True])
def test_agrees_with_the_dense_hessian(seed: int, masked: bool) -> None:
    model, data = small(seed)
    mask = half(model, seed) if masked else None
    if mask is not None:
        mask.apply(model)
    found = largest_eigenvalue(model, data, mask=mask, batch_size=5, tolerance=1e-10)
    assert found == pytest.approx(truth(model, data, mask), rel=1e-8)


def test_only_kept_coordinates_count() -> None:
    """The masked coordinates of the same weights have curvature of their own, which is left out."""
    model, data = small()
    mask = half(model)
    mask.apply(model)
    inside = largest_eigenvalue(model, data, mask=mask)
    everywhere = largest_eigenvalue(model, data)
    assert inside < everywhere * 0.999
    frozen = model.requires_grad_(False)
    frozen[7].bias.requires_grad_(True)  # pyright: ignore
    p = frozen(data.inputs).detach().softmax(1)
    block = (torch.diag_embed(p) - p[:, :, None] * p[:, None]).mean(0)
    largest = float(torch.linalg.eigvalsh(block)[-1])
    assert largest_eigenvalue(frozen, data, mask=mask) == pytest.approx(largest, rel=1e-6)


def test_the_sign_is_that_of_the_largest_magnitude() -> None:
    model, data = small()

    def descent(logits: Tensor, labels: Tensor) -> Tensor:
        return -F.cross_entropy(logits, labels)

    up = largest_eigenvalue(model, data, tolerance=1e-9)
    down = largest_eigenvalue(model, data, loss=descent, tolerance=1e-9)
    assert up > 0
    assert down == pytest.approx(-up, rel=1e-7)


def test_batch_size_start_and_parts_do_not_matter() -> None:
    model, data = small()
    whole = largest_eigenvalue(model, data, tolerance=1e-10)
    parts = [data.take(torch.arange(5)), data.take(torch.arange(5, 12))]
    for options in ({"batch_size": 1}, {"batch_size": 7}, {"seed": 9}):
        assert largest_eigenvalue(model, data, tolerance=1e-10, **options) == pytest.approx(
            whole, rel=1e-8
        )
    assert largest_eigenvalue(model, parts, tolerance=1e-10) == pytest.approx(whole, rel=1e-8)


def test_the_same_seed_gives_the_same_number_and_the_model_stays() -> None:
    here = laws.standard()
    model = here.original.train()
    next(model.children()).training = False
    before = laws.snapshot(model)
    one = []
    for state in (1, 2):
        with laws.random_state(state), laws.untouched_randomness():
            one.append(largest_eigenvalue(model, here.split.retain))
    laws.assert_same(before, laws.snapshot(model))
    assert one[0] == one[1]


def test_float32_is_near_to_float64() -> None:
    model, data = small()
    exact = largest_eigenvalue(model, data)
    single = replace(data, inputs=data.inputs.float())
    assert largest_eigenvalue(model.float(), single) == pytest.approx(exact, rel=1e-5)


def test_one_coordinate_and_no_curvature() -> None:
    model, data = small()
    keep = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in model.named_parameters()}
    keep["7.bias"][1] = True
    p = model(data.inputs).detach().softmax(1)[:, 1]
    expected = float((p * (1 - p)).mean())
    assert largest_eigenvalue(model, data, mask=Mask(keep)) == pytest.approx(expected, rel=1e-12)

    def flat(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits * 0).square().mean()

    assert largest_eigenvalue(model, data, loss=flat) == 0


def test_what_cannot_be_done_is_said() -> None:
    model, data = small()
    keep = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in model.named_parameters()}
    with pytest.raises(ValueError, match="mask keeps no weight"):
        largest_eigenvalue(model, data, mask=Mask(keep))
    with pytest.raises(ValueError, match="no examples"):
        largest_eigenvalue(model, [])
    with pytest.raises(ValueError, match="does not fit"):
        largest_eigenvalue(model, data, mask=Mask({"nowhere": torch.ones(2).bool()}))

    def restless(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(F.dropout(logits), labels)

    with pytest.raises(ValueError, match="differs from one pass to the next"):
        largest_eigenvalue(model, data, loss=restless)
    with torch.no_grad():
        model.get_parameter("7.weight").fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="not finite"):
        largest_eigenvalue(model, data)


def test_no_convergence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.sparse.linalg as sparse

    model, data = small()
    eigsh = sparse.eigsh

    def hasty(*arguments: object, **options: object) -> object:
        return eigsh(*arguments, **options, maxiter=1, ncv=2)  # pyright: ignore

    monkeypatch.setattr(sparse, "eigsh", hasty)
    with pytest.raises(ArithmeticError, match="larger tolerance"):
        largest_eigenvalue(model, data, tolerance=1e-14)
