"""A DCGAN fits its images, and its quick layers are the layers they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from oblivio.generative import GAN, generate, scores
from oblivio.models import load_weights
from oblivio.models.dcgan import DCGAN, FromImage, ToImage

SHAPES = [(1, 8, 8), (3, 8, 8), (1, 16, 16), (1, 28, 28), (3, 28, 28), (3, 32, 32), (1, 64, 64)]


def built(shape: tuple[int, ...] = (1, 8, 8), seed: int = 0, **settings: Any) -> GAN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DCGAN(**{"width": 4, "latent": 6, **settings})(shape, 3)


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_and_logits_have_their_shapes(shape: tuple[int, ...], conditional: bool) -> None:
    gan = built(shape, conditional=conditional)
    z, labels = gan.latents(5, 0), gan.labels(5, 1)
    images = gan.make(z, labels)
    assert images.shape == (5, *shape)
    assert float(images.detach().abs().max()) <= 1
    assert gan.score(images, labels).shape == (5,)
    assert (labels is None) != conditional


@pytest.mark.parametrize(
    ("shape", "innermost", "channels"),
    [((1, 8, 8), 2, 8), ((1, 28, 28), 7, 8), ((3, 32, 32), 4, 16), ((3, 64, 64), 4, 32)],
    ids=str,
)
def test_channels_double_down_to_the_innermost_image(
    shape: tuple[int, ...], innermost: int, channels: int
) -> None:
    gan = built(shape)
    assert gan.get_parameter("generator.start.0.weight").shape == (innermost**2 * channels, 6)
    assert gan.get_parameter("discriminator.logit.weight").shape == (1, innermost**2 * channels)


def test_first_weights_are_those_of_the_paper() -> None:
    gan = built((3, 32, 32), width=32, latent=50, conditional=True)
    for name, value in gan.generator.state_dict().items():
        assert torch.equal(value, gan.average.state_dict()[name]), name
    for player in (gan.generator, gan.discriminator):
        for module in player.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
                weight = module.weight.detach()
                mean, std = float(weight.mean()), float(weight.std())
                error = 5 * 0.02 / weight.numel() ** 0.5
                assert abs(mean) < error
                assert abs(std - 0.02) < error
            elif isinstance(module, nn.BatchNorm2d):
                assert float(module.weight.detach().mean()) == pytest.approx(1, abs=0.02)
                assert not bool(module.bias.any())


def test_the_label_changes_both_and_is_needed() -> None:
    gan = built(conditional=True).eval()
    z, x = gan.latents(4, 0), torch.rand(4, 1, 8, 8) * 2 - 1
    zero, one = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    assert not torch.equal(gan.make(z, zero), gan.make(z, one))
    assert not torch.equal(gan.score(x, zero), gan.score(x, one))
    with pytest.raises(ValueError, match="generator needs a label for every latent"):
        gan.generator(z)
    with pytest.raises(ValueError, match="discriminator needs a label for every image"):
        gan.discriminator(x)


def test_projection_adds_an_inner_product_with_the_labels_embedding() -> None:
    """D(x, y) − D(x, y′) = (e_y − e_y′) · φ(x), and e_y is read off an embedding (Miyato 2018)."""
    net: Any = built(conditional=True).eval().discriminator
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    zero, two = torch.tensor([0, 0]), torch.tensor([2, 2])
    features = net.blocks(x).permute(0, 2, 3, 1).reshape(2, -1)
    expected = features @ (net.label.weight[0] - net.label.weight[2])
    torch.testing.assert_close(net(x, zero) - net(x, two), expected)


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
def test_spectral_norm_holds_every_layer_of_the_discriminator(conditional: bool) -> None:
    gan = built((1, 28, 28), spectral_norm=True, conditional=conditional)
    labels = gan.labels(8, 0)
    for _ in range(60):  # one power iteration a pass
        gan.score(torch.rand(8, 1, 28, 28), labels)
    layers = [m for m in gan.discriminator.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == (4 if conditional else 3)
    for layer in layers:
        weight: Any = layer.weight
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(
            1, abs=0.02
        )
    assert not any(isinstance(m, nn.BatchNorm2d) for m in gan.discriminator.modules())


@pytest.mark.parametrize(
    ("settings", "layers"), [({}, 2), ({"normalise": False}, 0), ({"spectral_norm": True}, 0)]
)
def test_the_discriminator_normalises_all_but_the_first_block(
    settings: dict[str, Any], layers: int
) -> None:
    gan = built((3, 32, 32), **settings)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in gan.discriminator.modules()) == layers


@pytest.mark.parametrize(
    ("settings", "shape", "match"),
    [
        ({}, (64,), r"square images \(channels, side, side\), not \(64,\)"),
        ({}, (1, 8, 16), "makes square images"),
        ({}, (1, 27, 27), "Images of 27 pixels cannot be halved down"),
        ({}, (1, 2, 2), "Images of 2 pixels cannot be halved down"),
        ({}, (1, 36, 36), "Images of 36 pixels cannot be halved down"),
        ({"width": 0}, (1, 8, 8), "width = 0 must be 1 or more"),
        ({"latent": 0}, (1, 8, 8), "latent = 0 must be 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, Any], shape: tuple[int, ...], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        built(shape, **settings)


# --- The quick layers ---------------------------------------------------------------------------


@given(
    n=st.integers(1, 3),
    channels=st.integers(1, 5),
    side=st.integers(1, 7),
    last=st.booleans(),
    bias=st.booleans(),
)
def test_to_image_is_a_transposed_convolution(
    n: int, channels: int, side: int, last: bool, bias: bool
) -> None:
    torch.manual_seed(side)
    layer = ToImage(channels, 1, 4, 2, 1, bias=bias, dtype=torch.float64)
    x = torch.randn(n, channels, side, side, dtype=torch.float64, requires_grad=True)
    given = x.contiguous(memory_format=torch.channels_last) if last else x
    made = layer(given)
    expected = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1)
    torch.testing.assert_close(made, expected)
    towards = torch.randn_like(made)
    wanted = [x, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(made, wanted, towards), torch.autograd.grad(expected, wanted, towards)
    )


@given(n=st.integers(1, 3), channels=st.integers(1, 5), half=st.integers(1, 6), bias=st.booleans())
def test_from_image_is_a_convolution(n: int, channels: int, half: int, bias: bool) -> None:
    torch.manual_seed(half)
    layer = FromImage(1, channels, 4, 2, 1, bias=bias, dtype=torch.float64)
    x = torch.randn(n, 1, 2 * half, 2 * half, dtype=torch.float64, requires_grad=True)
    made, expected = layer(x), F.conv2d(x, layer.weight, layer.bias, 2, 1)
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(layer(x.detach()), expected)
    towards = torch.randn_like(made)
    wanted = [x, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(made, wanted, towards), torch.autograd.grad(expected, wanted, towards)
    )


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)], ids=str)
def test_layout_and_batch_size_change_nothing(shape: tuple[int, ...]) -> None:
    gan = built(shape).eval()
    z = gan.latents(7, 0)
    with torch.no_grad():
        images = gan(z)
        logits = gan.score(images)
    torch.testing.assert_close(generate(gan, z, batch_size=2), images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores(gan, images, batch_size=2), logits, rtol=1e-4, atol=1e-5)


def test_weights_without_an_average_begin_it_as_the_generator(tmp_path: Path) -> None:
    gan, other = (DCGAN(width=2, latent=3)((1, 8, 8), 3) for _ in range(2))
    gan.average.load_state_dict(other.generator.state_dict())
    given = {k: v for k, v in gan.state_dict().items() if not k.startswith("average.")}
    torch.save(given, tmp_path / "gan.pt")
    found = load_weights(other, tmp_path / "gan.pt")
    assert isinstance(found, GAN)
    for name, value in gan.generator.state_dict().items():
        assert torch.equal(found.generator.state_dict()[name], value)
        assert torch.equal(found.average.state_dict()[name], value)
