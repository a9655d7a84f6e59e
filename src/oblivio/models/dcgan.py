"""DCGAN: a generator and a discriminator of strided convolutions (Radford, Metz, Chintala 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from oblivio.generative import GAN

Images = Float[Tensor, "n c h w"]
Features = Float[Tensor, "n k p q"]


@dataclass(frozen=True)
class DCGAN:
    """DCGAN: a generator and a discriminator of strided convolutions.

    Every block doubles (G) or halves (D) the image; the innermost image has 2 (8 pixels), 7 (28) or
    4 (32) pixels. A conditional generator is given the label beside the latent, one-hot; its
    discriminator adds the inner product with an embedding of the label (Miyato and Koyama 2018).

    Args:
        width: Channels next to the image; they double with every halving.
        latent: How many numbers z has.
        conditional: Whether both are told the class.
        spectral_norm: Whether D's layers have norm 1 (Miyato et al. 2018), in the place of
            BatchNorm.
        normalise: Whether D has BatchNorm where it has no spectral norm.
    """

    makes: ClassVar[str] = "gan"

    width: int = 64
    latent: int = 100
    conditional: bool = False
    spectral_norm: bool = False
    normalise: bool = True

    def __call__(self, shape: tuple[int, ...], classes: int) -> GAN:
        """Build it.

        Returns:
            The untrained pair, with the weights that the paper begins from: N(0, 0.02²).

        Raises:
            ValueError: If the input is no square image whose side can be halved, or a size is 0.
        """
        for name in ("width", "latent"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be 1 or more.")
        if len(shape) != 3 or shape[1] != shape[2]:
            raise ValueError(f"A DCGAN makes square images (channels, side, side), not {shape}.")
        side, halvings = shape[1], 0
        while (side % 2 == 0 and side > 4) or (side == 4 and halvings < 2):
            side, halvings = side // 2, halvings + 1
        if halvings == 0 or side > 8:
            raise ValueError(
                f"Images of {shape[1]} pixels cannot be halved down to 2 to 8 pixels: pad or "
                "resize them to 8, 16, 28, 32 or 64."
            )
        widths = [self.width * 2**k for k in range(halvings)]
        known = classes if self.conditional else None
        gan = GAN(
            Generator(shape[0], side, widths, self.latent, known),
            Discriminator(shape[0], side, widths, known, self.spectral_norm, self.normalise),
            self.latent,
            classes=known,
        )
        gan.average.load_state_dict(gan.generator.state_dict())
        return gan


class Generator(nn.Module):
    """From a latent, and perhaps a label, to an image in [-1, 1]."""

    def __init__(
        self, channels: int, side: int, widths: list[int], latent: int, classes: int | None
    ) -> None:
        super().__init__()
        self.classes = classes
        inner = widths[-1]
        # Channels last from the start: the convolutions need not turn anything around.
        self.start = nn.Sequential(
            nn.Linear(latent + (classes or 0), side**2 * inner, bias=False),
            nn.Unflatten(1, (side, side, inner)),
        )
        blocks: list[nn.Module] = [nn.BatchNorm2d(inner), nn.ReLU()]
        for before, after in pairwise(widths[::-1]):
            wide = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            blocks += [wide, nn.BatchNorm2d(after), nn.ReLU()]
        self.blocks = nn.Sequential(*blocks, ToImage(widths[0], channels, 4, 2, 1), nn.Tanh())
        for module in self.modules():
            _begun(module)

    def forward(self, z: Float[Tensor, "n z"], labels: Int64[Tensor, " n"] | None = None) -> Images:
        """Images of these latents, and of these classes if it is conditional."""
        if self.classes is not None:
            if labels is None:
                raise ValueError("A conditional generator needs a label for every latent.")
            one_hot = F.one_hot(labels, self.classes).to(z.dtype)
            z = torch.cat([z, one_hot], 1)
        return self.blocks(self.start(z).permute(0, 3, 1, 2))


class Discriminator(nn.Module):
    """From an image, and perhaps its label, to a logit: how real it seems."""

    def __init__(
        self,
        channels: int,
        side: int,
        widths: list[int],
        classes: int | None,
        spectral: bool,
        normalise: bool,
    ) -> None:
        super().__init__()
        held = spectral_norm if spectral else _as_it_is
        batch = normalise and not spectral
        blocks: list[nn.Module] = [
            held(_begun(FromImage(channels, widths[0], 4, 2, 1))),
            nn.LeakyReLU(0.2),
        ]
        for before, after in pairwise(widths):
            blocks += [
                held(_begun(nn.Conv2d(before, after, 4, 2, 1, bias=not batch))),
                *((_begun(nn.BatchNorm2d(after)),) if batch else ()),
                nn.LeakyReLU(0.2),
            ]
        self.blocks = nn.Sequential(*blocks)
        features = widths[-1] * side**2
        self.logit = held(_begun(nn.Linear(features, 1)))
        self.label = None if classes is None else held(_begun(nn.Embedding(classes, features)))

    def forward(
        self, images: Images, labels: Int64[Tensor, " n"] | None = None
    ) -> Float[Tensor, " n"]:
        """One logit per image."""
        features = self.blocks(images).permute(0, 2, 3, 1).flatten(1)
        logits = self.logit(features).squeeze(1)
        if self.label is None:
            return logits
        if labels is None:
            raise ValueError("A conditional discriminator needs a label for every image.")
        return logits + (self.label(labels) * features).sum(1)


class ToImage(nn.ConvTranspose2d):
    """The last layer of G, which on the CPU goes to a grey image by a product of matrices.

    oneDNN's kernels are made for many channels: to a single one, this is three times as fast.
    """

    def forward(self, input: Features, output_size: list[int] | None = None) -> Images:
        """Images of twice the side."""
        if input.is_cuda or self.out_channels > 1:
            return super().forward(input, output_size)
        n, k, p, q = input.shape
        patches = self.weight.reshape(k, 16).t() @ input.reshape(n, k, p * q)
        image = F.fold(patches, (2 * p, 2 * q), 4, padding=1, stride=2)
        return image if self.bias is None else image + self.bias


class FromImage(nn.Conv2d):
    """The first layer of D, which on the CPU likewise hands a gradient to a grey image."""

    def forward(self, input: Images) -> Features:
        """Features at half the side."""
        if input.is_cuda or self.in_channels > 1 or not input.requires_grad:
            return super().forward(input)
        n, _, h, w = input.shape
        patches = F.unfold(input, 4, padding=1, stride=2)
        features = F.linear(patches.transpose(1, 2), self.weight.reshape(-1, 16), self.bias)
        return features.reshape(n, h // 2, w // 2, -1).permute(0, 3, 1, 2)


def _begun(module: nn.Module) -> nn.Module:
    """A layer with its first weights: N(0, 0.02²), and N(1, 0.02²) for BatchNorm."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    return module


def _as_it_is(module: nn.Module) -> nn.Module:
    return module
