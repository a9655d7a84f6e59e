"""Differentiable augmentation: what is done to all that the discriminator sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from oblivio.data.arrays import shifted
from oblivio.generative import Images


def brightness(x: Images, draw: torch.Generator) -> Images:
    """Add a number in [-½, ½) to each image."""
    return x + (torch.rand(len(x), 1, 1, 1, generator=draw) - 0.5).to(x)


def shift(x: Images, draw: torch.Generator) -> Images:
    """Move each image by up to an eighth of its side."""
    most = max(1, x.shape[-1] // 8)
    return shifted(x, torch.randint(2 * most + 1, (len(x), 2), generator=draw).to(x.device), most)


def cutout(x: Images, draw: torch.Generator) -> Images:
    """Set half the height and half the width to zero, at a random place of each image."""
    inside = []
    for side in x.shape[-2:]:
        half, place = side // 2, torch.arange(side)
        corner = torch.randint(1 - half, side, (len(x), 1), generator=draw)
        inside.append((place >= corner) & (place < corner + half))
    return x * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(x.device)


AUGMENTS: Mapping[str, Callable[[Images, torch.Generator], Images]] = {
    "brightness": brightness,
    "shift": shift,
    "cutout": cutout,
}
"""Differentiable augmentations by name."""
