"""Σ g² and Σ |g| agree with a loop over single examples: layer by layer, and for whole networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from oblivio.core import Batch
from oblivio.curvature import moment
from oblivio.models import factory
from oracles_fisher import apart, assert_moments, examples, unsettled


def classifier(shape: Sequence[int], *layers: nn.Module) -> nn.Module:
    """Layers, and a linear one of their flattened outputs."""
    body = nn.Sequential(*layers, nn.Tanh(), nn.Flatten()).eval()
    return nn.Sequential(body, nn.Linear(body(torch.zeros(1, *shape)).shape[1], 3))


# --- Layers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [(), (1,), (2,), (4,), (5,), (9,), (2, 3)])
def test_linear(positions: tuple[int, ...]) -> None:
    model = unsettled(classifier((*positions, 6), nn.Linear(6, 5)))
    x, y = examples((*positions, 6))
    assert_moments(model, x, y)
    assert not apart(model, x, y)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A convolution of a line or an image, and the shape of what it takes."""
    spatial = draw(st.sampled_from([1, 2, 2]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inner = groups * draw(st.sampled_from([1, 2, 3, 5]))
    outer = groups * draw(st.integers(1, 3))

    def each(numbers: st.SearchStrategy[int]) -> tuple[int, ...]:
        return draw(st.tuples(*[numbers] * spatial))

    kernel, dilation = each(st.integers(1, 3)), each(st.integers(1, 2))
    stride, padding = each(st.integers(1, 3)), each(st.integers(0, 2))
    least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [max(n - 2 * p, p + 1) for n, p in zip(least, padding, strict=True)]
    size = [n + more for n, more in zip(size, each(st.integers(0, 5)), strict=True)]
    around: Any = padding
    if draw(st.booleans()):
        stride, around, size = (1,) * spatial, "same", [n + 2 for n in size]
    layer = (nn.Conv1d, nn.Conv2d)[spatial - 1](
        inner,
        outer,
        kernel,  # pyright: ignore[reportArgumentType]
        stride=stride,  # pyright: ignore[reportArgumentType]
        padding=around,
        dilation=dilation,  # pyright: ignore[reportArgumentType]
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "zeros", "reflect", "circular"])),
    )
    return layer, (inner, *size)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=30)
@given(convolutions(), st.sampled_from([1, 2**22]))
def test_convolution(drawn: tuple[nn.Module, tuple[int, ...]], cache: int) -> None:
    """With room for one example at a time, and for all."""
    layer, shape = drawn
    model = unsettled(classifier(shape, layer))
    x, y = examples(shape, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(moment.CACHE, "cpu", cache)
        assert_moments(model, x, y, chunks=(2, 100))
    assert not apart(model, x, y)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "depthwise": (lambda: nn.Conv2d(6, 12, 3, groups=6, padding=1), (6, 4, 5)),
    "one position": (lambda: nn.Conv2d(5, 4, 3), (5, 3, 3)),
    "four positions": (lambda: nn.Conv2d(5, 4, 3, stride=2), (5, 5, 6)),
    "one pixel": (lambda: nn.Conv2d(5, 4, 1), (5, 3, 4)),
    "volume": (lambda: nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), (2, 3, 4, 3)),
    "transposed line": (lambda: nn.ConvTranspose1d(3, 4, 3, stride=2), (3, 5)),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2, dilation=2),
        (4, 3, 4),
    ),
    "transposed volume": (lambda: nn.ConvTranspose3d(2, 3, 2, bias=False), (2, 2, 3, 2)),
    "BatchNorm of vectors": (lambda: nn.BatchNorm1d(5), (5,)),
    "BatchNorm of lines": (lambda: nn.BatchNorm1d(5), (5, 4)),
    "BatchNorm": (lambda: nn.BatchNorm2d(5), (5, 4, 3)),
    "BatchNorm of volumes": (lambda: nn.BatchNorm3d(2), (2, 2, 3, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(6), (4, 6)),
    "LayerNorm over all": (lambda: nn.LayerNorm((4, 6)), (4, 6)),
    "LayerNorm of vectors": (lambda: nn.LayerNorm(6), (6,)),
    "RMSNorm": (lambda: nn.RMSNorm(6), (4, 6)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (6, 3, 2)),
    "PReLU": (lambda: nn.PReLU(), (4, 3)),
    "PReLU by channel": (lambda: nn.PReLU(4), (4, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    build, shape = LAYERS[name]
    model = unsettled(classifier(shape, build()))
    x, y = examples(shape)
    assert_moments(model, x, y)
    assert not apart(model, x, y)


def test_instance_norm_is_right_though_it_is_not_routed() -> None:
    model = unsettled(classifier((4, 3, 5), nn.InstanceNorm2d(4, affine=True)))
    x, y = examples((4, 3, 5))
    assert_moments(model, x, y)
    assert apart(model, x, y) == {"0.0.weight", "0.0.bias"}


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embedding(padding: int | None) -> None:
    """Tokens repeat."""
    body = nn.Sequential(nn.Embedding(4, 5, padding_idx=padding), nn.Tanh(), nn.Flatten())
    model = unsettled(nn.Sequential(body, nn.Linear(30, 3)))
    x, y = examples((6,), tokens=4)
    assert_moments(model, x, y)
    assert not apart(model, x, y)


# --- Networks -----------------------------------------------------------------------------------

NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "mlp": ({"hidden": [8, 6]}, (1, 5, 5)),
    "cnn": ({"channels": [4, 6], "hidden": 8}, (1, 8, 8)),
    "vit": ({"depth": 2, "heads": 2, "width": 8, "hidden": 16}, (3, 8, 8)),
    "resnet18": ({}, (3, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    """Networks of the catalogue go all in a single pass."""
    options, shape = NETWORKS[name]
    model = factory({"name": name, **options}, shape, 3)().double().eval()
    x, y = examples(shape, 3 if name == "resnet18" else 5)
    assert_moments(model, x, y, chunks=(2,))
    assert not apart(model, x, y)


def test_narrow_vgg16_bn() -> None:
    """All of its layers, with fewer channels."""
    from torchvision.models.vgg import VGG, cfgs, make_layers

    narrow = [size if isinstance(size, str) else size // 16 for size in cfgs["D"]]
    features = VGG(make_layers(narrow, batch_norm=True), init_weights=False).features  # pyright: ignore
    model = unsettled(classifier((3, 32, 32), features))
    x, y = examples((3, 32, 32), 3)
    assert_moments(model, x, y, chunks=(2,))
    assert not apart(model, x, y)


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_float32_is_near_to_float64(name: str) -> None:
    options, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = factory({"name": name, **options}, shape, 3)().eval()
    x, y = examples(shape)
    single = moment.moments(model, [Batch(x.float(), y, 1.0)], F.cross_entropy)
    double = moment.moments(model.double(), [Batch(x, y, 1.0)], F.cross_entropy)
    for name, values in double.items():
        assert float((single[name] - values).abs().max()) <= 1e-5 * float(values.max())
