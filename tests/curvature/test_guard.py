"""What curvature cannot be taken of is refused, with the part that is to blame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import laws
import worlds
from oblivio.core import Batch
from oblivio.curvature.guard import check_deterministic
from oblivio.data.arrays import Arrays


class Noisy(Arrays):
    """Inputs that are drawn anew at every pass."""

    def batches(self, size: int, **options: Any) -> Iterator[Batch]:
        for batch in super().batches(size, **options):
            yield batch._replace(inputs=batch.inputs + 0.1 * torch.randn_like(batch.inputs))


class Undecided(Arrays):
    """Labels that are drawn anew at every pass."""

    def batches(self, size: int, **options: Any) -> Iterator[Batch]:
        for batch in super().batches(size, **options):
            yield batch._replace(labels=torch.randint(3, batch.labels.shape))


class Drops(nn.Module):
    """Dropout that ignores eval mode."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.line, self.inplace = nn.Linear(5, 5), inplace

    def forward(self, x: Tensor) -> Tensor:
        return self.line(F.dropout(self.line(x), inplace=self.inplace))


class Awake(nn.Dropout):
    """A layer of its own that does so."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, True, self.inplace)


class Counting(nn.Module):
    """Not random, but another one at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class Named(nn.Module):
    """Takes and gives dictionaries."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"out": self.inner(parts["in"])}


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.named = Named(inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.named(parts={"in": x})["out"]


def around(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Dropout(), nn.Sequential(*layers), nn.Linear(5, 3))


def examples() -> Arrays:
    return worlds.pictures(20, 3, (6,))


def test_a_function_passes_and_stays_as_it_is() -> None:
    model = around(nn.BatchNorm1d(5), nn.ReLU(inplace=True)).train()
    before = laws.snapshot(model)
    with laws.untouched_randomness():
        check_deterministic(model, examples())
    laws.assert_same(before, laws.snapshot(model))


@pytest.mark.parametrize(
    ("layers", "culprit"),
    [
        ([nn.ReLU(), Awake()], r"the layer 2\.1 \(Awake\)"),
        ([Awake(inplace=True), Awake()], r"the layer 2\.0 \(Awake\)"),
        ([nn.ReLU(), Drops()], r"the layer 2\.1 \(Drops\)"),
        ([Drops(inplace=True)], r"the layer 2\.0 \(Drops\)"),
        ([Wrapped(Awake())], r"the layer 2\.0\.named\.inner \(Awake\)"),
        ([Counting()], r"the layer 2\.0 \(Counting\)"),
    ],
)
def test_the_smallest_random_part_is_named(layers: list[nn.Module], culprit: str) -> None:
    torch.manual_seed(0)
    model = around(*layers)
    before = laws.snapshot(model)
    with pytest.raises(
        ValueError, match=rf"output .* 20 examples differs from one pass to the next.*{culprit}"
    ):
        check_deterministic(model, examples())
    laws.assert_same(before, laws.snapshot(model))


def test_the_model_itself_may_be_to_blame() -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"the model itself \(Drops\)"):
        check_deterministic(Drops(), worlds.pictures(9, 3, (5,)))


@pytest.mark.parametrize("kind", [Noisy, Undecided])
def test_random_data_are_told_from_random_models(kind: type[Arrays]) -> None:
    data = examples()
    with pytest.raises(
        ValueError, match=r"data give .* differs from one pass to the next.*transforms"
    ):
        check_deterministic(around(Awake()), kind(data.inputs, data.labels))


def test_random_losses_are_refused() -> None:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(z + torch.randn_like(z), y)

    with pytest.raises(ValueError, match=r"The loss .* differs from one pass to the next"):
        check_deterministic(around(), examples(), loss)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda z, y: F.cross_entropy(z, y, reduction="none"), r"one number.*shape \(20,\)"),
        (lambda z, y: (z.argmax(1) == y).float().mean(), "cannot be differentiated"),
    ],
)
def test_what_is_no_loss_is_refused(loss: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_deterministic(around(), examples(), loss)
