"""Every way to use a parameter gives the right sums; what is not understood takes the slow way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import laws
from oblivio.core import Batch
from oblivio.curvature import moment
from oracles_fisher import apart, assert_moments, examples, unsettled
from unusual import NETWORKS, Net, Square

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


def made(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    return unsettled(NETWORKS[name].copy()), *examples(NETWORKS[name].shape)


def whole(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> dict[str, Tensor]:
    """Σ g² over one batch."""
    return moment.moments(model, [Batch(x, y, 1.0)], F.cross_entropy, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_use(name: str) -> None:
    model, x, y = made(name)
    assert_moments(model, x, y)
    assert apart(model, x, y) == NETWORKS[name].slow


@pytest.mark.parametrize("name", ["ViT", "by hand", "windows", "recurrent"])
def test_the_slow_way_is_right_by_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = made(name)
    monkeypatch.setattr(moment, "_route", lambda *_: {})
    assert_moments(model, x, y, chunks=(3,))


def tied(way: str) -> nn.Module:
    """Words in, words out, by the same table."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.line(net.words(x)).tanh().mean(1)
        if way == "shared":
            return net.last(h)
        return F.linear(h, net.words.weight) if way == "linear" else h @ net.words.weight.T

    net = Net(forward, words=nn.Embedding(5, 4), line=nn.Linear(4, 4))
    if way == "shared":
        net.last = nn.Linear(4, 5)
        net.last.weight = net.words.weight
    return net


@pytest.mark.parametrize("way", ["shared", "linear", "transposed"])
def test_words_that_are_tied(way: str) -> None:
    model = unsettled(tied(way))
    x, y = examples((6,), tokens=5)
    assert_moments(model, x, y)
    assert apart(model, x, y) == ({"words.weight"} if way == "transposed" else set())


# --- Losses -------------------------------------------------------------------------------------


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(outputs.softmax(1), F.one_hot(labels, 3).to(outputs))


def stubborn(outputs: Tensor, labels: Tensor) -> Tensor:
    """What cannot be vectorised: a branch on a value."""
    far = float(outputs.detach().norm()) > 1
    return F.cross_entropy(outputs, labels) * (2 if far else 1)


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(label_smoothing=0.1), squared_error, stubborn]
)
def test_loss(loss: Callable[..., Tensor]) -> None:
    model, x, y = made("windows")
    assert_moments(model, x, y, loss)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda z, y: F.cross_entropy(z, y, reduction="none"), r"one number.*shape \(1,\)"),
        (lambda z, y: z.log_softmax(1), r"one number.*shape \(1, 3\)"),
        (lambda z, y: z.detach().sum(), "cannot be differentiated"),
        (lambda z, y: torch.zeros(()), "cannot be differentiated"),
    ],
)
def test_what_is_no_loss(loss: Callable[..., Tensor], message: str, unchecked: None) -> None:
    model, x, y = made("windows")
    with pytest.raises(ValueError, match=message):
        moment.moments(model, [Batch(x, y, 1.0)], loss)


def test_weights_that_nothing_uses_have_sums_of_zero() -> None:
    model, x, y = made("unused")
    model.get_submodule("line").requires_grad_(False)
    found = whole(model, x, y)
    assert list(found) == ["w", "other.weight", "other.bias"]
    assert not any(values.any() for values in found.values())


def test_there_must_be_weights_to_take_gradients_of() -> None:
    model, x, y = made("windows")
    with pytest.raises(ValueError, match="no trainable parameters"):
        whole(model.requires_grad_(False), x, y)


# --- What does not matter -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ViT", "windows", "by hand"])
def test_neither_order_nor_frozen_neighbours_matter(name: str) -> None:
    model, x, y = made(name)
    found, turned = whole(model, x, y), whole(model, x.flip(0), y.flip(0))
    for one in found:
        torch.testing.assert_close(turned[one], found[one], rtol=1e-10, atol=1e-20)
    for one in list(found)[:: max(len(found) // 4, 1)]:
        for other, p in model.named_parameters():
            p.requires_grad_(other == one)
        alone = whole(model, x, y)
        assert list(alone) == [one]
        torch.testing.assert_close(alone[one], found[one], rtol=1e-10, atol=1e-20)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["windows", "in place", "LSTM"])
def test_the_model_stays(name: str, training: bool) -> None:
    model, x, y = made(name)
    next(model.train(training).children()).train(not training)
    slopes = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    for key, p in model.named_parameters():
        p.grad = slopes[key].clone()
    before = laws.snapshot(model)
    with laws.untouched_randomness(), torch.set_grad_enabled(training):
        found = whole(model, x, y)
    laws.assert_same(before, laws.snapshot(model))
    for key, p in model.named_parameters():
        assert p.grad is not None
        assert torch.equal(p.grad, slopes[key])
        assert not p._backward_hooks
        assert not found[key].requires_grad


# --- What two examples do not show --------------------------------------------------------------


def rarely(net: Any, x: Tensor) -> Tensor:
    """The first examples do not go through the function."""
    h = net.line(x)
    return h + Square.apply(h, net.w) if bool((x > 1e3).any()) else h


def gated(net: Any, x: Tensor) -> Tensor:
    """The first examples go through it, but nothing comes back."""
    return net.line(x) + Square.apply(F.relu(x[:, :3] - 1e3), net.w)


def turned(net: Any, x: Tensor) -> Tensor:
    """Time comes first, but not in the first examples."""
    h = net.line(x[:, 0]) * net.w
    return h + net.line(x.transpose(0, 1)).tanh().sum(0) if bool((x > 1e3).any()) else h


@pytest.mark.parametrize(("work", "shape"), [(rarely, (6,)), (gated, (6,)), (turned, (4, 6))])
def test_a_use_that_did_not_count_at_first_is_not_passed_over(
    work: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    model = unsettled(Net(work, line=nn.Linear(6, 3), w=(3,)))
    x, y = examples(shape, 8)
    x.flatten(1)[4:, 0] = 1e4
    assert_moments(model, x, y, chunks=(1, 4))


def test_a_misreading_that_the_first_examples_cannot_show_is_not_believed() -> None:
    """Time comes first, and the first examples give that layer no gradient at all."""

    def work(net: Any, x: Tensor) -> Tensor:
        seen = net.line(F.relu(x - 3).transpose(0, 1)).transpose(0, 1)
        return net.last(seen.tanh().sum(1) + x[:, 0, :3])

    model = unsettled(Net(work, line=nn.Linear(6, 3, bias=False), last=nn.Linear(3, 3)))
    x, y = examples((2, 6), 8)
    x[:2].clamp_(max=2)
    x[2:] += 4
    assert_moments(model, x, y, chunks=(2, 100))


def test_examples_that_are_alike_do_not_hide_that_they_are_mixed() -> None:
    model, x, y = made("mixed by BatchNorm")
    x[1], y[1] = x[0], y[0]
    assert_moments(model, x, y)


# --- Memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sequence", "image", "added", "multiplied"])
def test_little_memory_is_enough_or_the_layer_is_named(name: str, unchecked: None) -> None:
    """In float64: 8 bytes a number."""
    model, shape, least, culprit = {
        "sequence": (nn.Sequential(nn.Linear(90, 200), nn.Flatten()), (5, 90), 144_000, "0.weight"),
        "image": (nn.Sequential(nn.Conv2d(9, 70, 5), nn.Flatten()), (9, 8, 8), 137_520, "0.weight"),
        "added": (Net(lambda net, x: x + net.w, w=(20_000,)), (20_000,), 160_000, "w"),
        "multiplied": (Net(lambda net, x: x @ net.w.T, w=(200, 90)), (90,), 144_000, "w"),
    }[name]
    unsettled(model)
    x, y = examples(shape, 3)
    assert_moments(model, x, y, chunks=(2,), memory=least)
    with pytest.raises(ValueError, match=rf"gradient of {culprit} takes 0.[12] MiB"):
        whole(model, x, y, memory=least - 1)
