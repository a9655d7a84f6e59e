"""Per-example gradients agree with a loop over single examples, for any kind of layer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import laws
import oracles_influence
import worlds
from oblivio.core import Data
from oblivio.curvature import gradients
from oblivio.curvature.guard import check_deterministic
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask


class Twice(nn.Module):
    """One layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).tanh())


class Functional(nn.Module):
    """A weight that is used by its layer and, once more, without it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(x, self.layer.weight.square())


class Tied(nn.Module):
    """A weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).tanh())


class Branch(nn.Module):
    """A path that depends on a value, which cannot be vectorised."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(row if float(row.sum()) > 0 else 2 * row) for row in x])


class Attention(nn.Module):
    """Six tokens of one number each; the attention's first weight belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 4)
        self.norm = nn.LayerNorm(4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.embed(x[..., None]))
        return self.last((tokens + self.attend(tokens, tokens, tokens)[0]).mean(1))


def hooked() -> nn.Module:
    """A user's own hook changes what a layer gives."""
    layer = nn.Linear(6, 6)
    layer.register_forward_hook(lambda module, args, output: output.square())
    return layer


def images() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 4, 2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(48, 3),
    )


def odd_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=0.1) + logits.square().sum(1).mean()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "mlp": (lambda: worlds.tiny_network(3, (6,)), True),
    "images": (images, True),
    "sequence": (
        lambda: nn.Sequential(nn.Unflatten(1, (3, 2)), nn.Linear(2, 3), nn.Flatten()),
        True,
    ),
    "twice": (Twice, False),
    "functional": (Functional, False),
    "tied": (Tied, False),
    "branch": (Branch, False),
    "attention": (Attention, False),
    "weight norm": (lambda: weight_norm(nn.Linear(6, 3)), False),
    "hooked": (hooked, False),
}


def made(name: str) -> tuple[nn.Module, Arrays]:
    torch.manual_seed(0)
    data = worlds.pictures(11, 3, (6,), dtype=torch.float64)
    model = NETWORKS[name][0]().double()
    if name == "images":
        model(data.inputs)  # gives BatchNorm statistics of its own
    return model.eval(), data


@pytest.mark.parametrize("loss", [F.cross_entropy, odd_loss])
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_a_loop_over_examples(name: str, loss: Callable[..., Tensor]) -> None:
    model, data = made(name)
    expected = oracles_influence.per_example(model, data, loss)
    before = laws.snapshot(model)
    for size in (1, 4, 100):
        batches = (gradients.flat_gradients(model, x, y, loss) for x, y, _ in data.batches(size))
        found = torch.cat(list(batches))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    laws.assert_same(before, laws.snapshot(model))


@pytest.mark.parametrize("name", NETWORKS)
def test_goes_layer_by_layer_where_that_is_right_and_only_there(name: str) -> None:
    model, data = made(name)
    own = gradients.trainable(model)
    try:
        found = gradients._by_layer(
            gradients.at_rest(model), own, data.inputs, data.labels, F.cross_entropy
        )
    except RuntimeError:
        found = None
    assert (found is not None) == NETWORKS[name][1]


def test_linear_layers_keep_their_factors() -> None:
    model, data = made("mlp")
    found = gradients.rows(model, data.inputs, data.labels)
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert found["1.weight"].left.shape == (11, 5)
    assert found["1.weight"].right.shape == (11, 6)


def test_the_mean_is_the_mean() -> None:
    model, data = made("images")
    expected = oracles_influence.per_example(model, data, F.cross_entropy).mean(0)
    for size in (1, 4, 100):
        found = gradients.mean_gradient(model, data, batch_size=size)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    assert gradients.mean_gradient(
        model.float(), Arrays(data.inputs.float(), data.labels)
    ).dtype == (torch.float64)


def test_a_model_in_train_mode_is_read_as_in_eval_mode_and_stays_as_it_is() -> None:
    model, data = made("images")
    expected = gradients.flat_gradients(model, data.inputs, data.labels)
    mean = gradients.mean_gradient(model, data)
    before = laws.snapshot(model.train())
    assert torch.equal(gradients.flat_gradients(model, data.inputs, data.labels), expected)
    assert torch.equal(gradients.mean_gradient(model, data), mean)
    laws.assert_same(before, laws.snapshot(model))


def test_frozen_parameters_have_no_coordinates() -> None:
    model, data = made("images")
    full = gradients.rows(model, data.inputs, data.labels)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in ("2.weight", "8.bias"))
    found = gradients.rows(model, data.inputs, data.labels)
    assert list(found) == ["2.weight", "8.bias"]
    for name in found:
        torch.testing.assert_close(found[name].full(), full[name].full())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        gradients.flat_gradients(model, data.inputs, data.labels)
    with pytest.raises(ValueError, match="no trainable parameters"):
        gradients.mean_gradient(model, data)


def test_a_vector_and_its_parts_are_the_same_numbers() -> None:
    model, _ = made("images")
    flat = torch.arange(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    parts = gradients.unflatten(model, flat)
    assert all(parts[name].shape == p.shape for name, p in model.named_parameters())
    assert torch.equal(gradients.flatten(parts), flat)


def test_a_flat_mask_lies_where_the_weights_lie() -> None:
    model, _ = made("images")
    keep = torch.rand(4, 1, 2, 2) > 0.5
    flat = gradients.flat_mask(model, Mask({"1.weight": keep}))
    parts = gradients.unflatten(model, flat)
    assert torch.equal(parts.pop("1.weight"), keep)
    assert all(bool(part.all()) for part in parts.values())
    with pytest.raises(ValueError, match="mask does not fit"):
        gradients.flat_mask(model, Mask({"nowhere": keep}))


def test_chunks_fit_the_memory_within_reason() -> None:
    model = nn.Linear(1000, 10)
    assert gradients.chunk_size(model, 40 * 10_010 * 4) == 40
    assert gradients.chunk_size(model, 1) == 8
    assert gradients.chunk_size(model, 2**40) == 128


# --- The guard ----------------------------------------------------------------------------------


class Noisy(Arrays):
    """Inputs that are drawn anew at every pass."""

    def batches(self, size: int, **options: object):  # pyright: ignore
        for batch in super().batches(size, **options):  # pyright: ignore
            yield batch._replace(inputs=batch.inputs + 0.1 * torch.randn_like(batch.inputs))


class Dropping(nn.Module):
    """Dropout that ignores eval mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(F.dropout(x))


def test_the_guard_lets_a_function_pass() -> None:
    model, data = made("images")
    check_deterministic(model.train(), data)  # its own dropout is off
    check_deterministic(copy.deepcopy(model).float(), Arrays(data.inputs.float(), data.labels))


@pytest.mark.parametrize("culprit", ["data", "model"])
def test_the_guard_hears_chance(culprit: str) -> None:
    model, clean = made("images")
    data: Data = Noisy(clean.inputs, clean.labels) if culprit == "data" else clean
    with pytest.raises(ValueError, match="differs from one pass to the next"):
        check_deterministic(Dropping(model) if culprit == "model" else model, data)
