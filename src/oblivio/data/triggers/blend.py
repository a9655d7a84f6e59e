"""A faint pattern over the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from oblivio.data.triggers import Images, level


@dataclass(frozen=True)
class Blend:
    """A fixed random pattern, blended faintly over the whole image.

    x ← (1 − α) x + α u,  with u drawn once, uniformly from black to white.

    Args:
        strength: α.
        seed: Of the pattern; it depends on the images' size and on nothing else.

    Raises:
        ValueError: If α does not lie above 0 and is not at most 1.

    Source: Chen, Liu, Li, Lu and Song 2017 (arXiv 1712.05526), "blended injection".
    """

    strength: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength = {self.strength} must lie above 0 and be at most 1.")

    def __call__(self, images: Images) -> Images:
        """The images with the pattern on them; those given stay as they are."""
        draw = torch.Generator().manual_seed(self.seed)
        pattern = torch.rand(images.shape[1:], generator=draw).to(images.device)
        mixed = (1 - self.strength) * images + self.strength * level(images, 1.0) * pattern
        return (mixed if images.is_floating_point() else mixed.round()).to(images.dtype)
