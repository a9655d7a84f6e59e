"""Small vision transformer (ViT)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ViT:
    """Small vision transformer (ViT), for square images.

    torchvision's class: patches become tokens, with a class token before them and learned
    positions; then blocks of attention and a GELU network, a LayerNorm before each of both; and a
    linear layer on the class token.

    torchvision begins with a classifier and a class token of zeros. Then no gradient passes the
    classifier before the first step, and a score that is taken there, such as SynFlow's, is zero
    everywhere. Here both are drawn as the positions are.

    Args:
        patch: The side of a patch in pixels, which must divide the image's; None is the largest
            divisor whose square is no more than the side: 2 for 8 pixels, 4 for 28 and for 32.
        depth: How many blocks.
        heads: Of attention, in each block.
        width: The length of a token; each head gets an equal share of it.
        hidden: The width of each block's hidden layer.
        dropout: The share of values that training drops, from 0 to below 1.

    Raises:
        ValueError: If a number is out of range, or `heads` does not divide `width`.

    Source: Dosovitskiy et al. 2021; the standard deviation of 0.02 is torchvision's for positions.
    """

    patch: int | None = None
    depth: int = 4
    heads: int = 4
    width: int = 64
    hidden: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("patch", "depth", "heads", "width", "hidden"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value} must be 1 or more.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout = {self.dropout} must be from 0 to below 1.")
        if self.width % self.heads:
            raise ValueError(
                f"width = {self.width} cannot be shared equally by {self.heads} heads: it must be "
                f"a multiple of `heads`."
            )

    def __call__(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Build it.

        Returns:
            The untrained network.

        Raises:
            ValueError: If the input is not a square image, or cannot be cut into patches.
        """
        if len(shape) != 3 or shape[1] != shape[2]:
            raise ValueError(
                f"A vision transformer takes square images (channels, side, side), not inputs of "
                f"{shape}."
            )
        from torchvision.models import VisionTransformer

        side = shape[1]
        patch = self.patch or max(d for d in divisors(side) if d**2 <= side)
        if side % patch:
            raise ValueError(
                f"Images of {side}×{side} pixels cannot be cut into patches of {patch}×{patch}: "
                f"patch must be one of {', '.join(map(str, divisors(side)))}."
            )
        network = VisionTransformer(
            image_size=side,
            patch_size=patch,
            num_layers=self.depth,
            num_heads=self.heads,
            hidden_dim=self.width,
            mlp_dim=self.hidden,
            dropout=self.dropout,
            num_classes=classes,
        )
        if shape[0] != 3:
            network.conv_proj = tokeniser(shape[0], self.width, patch)
        for zeros in (network.class_token, network.heads.get_parameter("head.weight")):
            nn.init.normal_(zeros, std=0.02)
        return network


def tokeniser(channels: int, width: int, patch: int) -> nn.Conv2d:
    """Patches to tokens, for other images than colour ones; begun as torchvision does."""
    layer = nn.Conv2d(channels, width, patch, stride=patch)
    nn.init.trunc_normal_(layer.weight, std=math.sqrt(1 / (channels * patch**2)))
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return layer


def divisors(number: int) -> list[int]:
    """All numbers from 1 on that divide this one."""
    return [d for d in range(1, number + 1) if number % d == 0]
