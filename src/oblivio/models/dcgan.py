"""DCGAN: a generator and a discriminator of strided convolutions (Radford, Metz, Chintala 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from oblivio.generative import GAN

Images = Float[Tensor, "n c h w"]


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
        blocks: list[nn.Module] = [
            nn.Linear(latent + (classes or 0), inner * side**2, bias=False),
            nn.Unflatten(1, (inner, side, side)),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
        ]
        for before, after in zip(widths[::-1], [*widths[-2::-1], None], strict=True):
            wide = nn.ConvTranspose2d(before, after or channels, 4, 2, 1, bias=after is None)
            blocks += [wide, *(() if after is None else (nn.BatchNorm2d(after), nn.ReLU()))]
        self.blocks = nn.Sequential(*blocks, nn.Tanh())
        self.blocks.apply(_begun)

    def forward(self, z: Float[Tensor, "n z"], labels: Int64[Tensor, " n"] | None = None) -> Images:
        """Images of these latents, and of these classes if it is conditional."""
        if self.classes is not None:
            if labels is None:
                raise ValueError("A conditional generator needs a label for every latent.")
            one_hot = nn.functional.one_hot(labels, self.classes).to(z.dtype)
            z = torch.cat([z, one_hot], 1)
        return self.blocks(z)


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
        blocks: list[nn.Module] = []
        for before, after in zip([channels, *widths[:-1]], widths, strict=True):
            batch = normalise and not spectral and before != channels
            blocks += [
                held(_begun(nn.Conv2d(before, after, 4, 2, 1, bias=not batch))),
                *((_begun(nn.BatchNorm2d(after)),) if batch else ()),
                nn.LeakyReLU(0.2),
            ]
        self.blocks = nn.Sequential(*blocks, nn.Flatten())
        features = widths[-1] * side**2
        self.logit = held(_begun(nn.Linear(features, 1)))
        self.label = None if classes is None else held(_begun(nn.Embedding(classes, features)))

    def forward(
        self, images: Images, labels: Int64[Tensor, " n"] | None = None
    ) -> Float[Tensor, " n"]:
        """One logit per image."""
        features = self.blocks(images)
        logits = self.logit(features).squeeze(1)
        if self.label is None:
            return logits
        if labels is None:
            raise ValueError("A conditional discriminator needs a label for every image.")
        return logits + (self.label(labels) * features).sum(1)


def _begun(module: nn.Module) -> nn.Module:
    """A layer with its first weights: N(0, 0.02²), and N(1, 0.02²) for BatchNorm."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    return module


def _as_it_is(module: nn.Module) -> nn.Module:
    return module
