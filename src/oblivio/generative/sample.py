"""What the averaged generator makes, what the discriminator says, and real images as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from oblivio.core import Data, derive, resting, seeded
from oblivio.generative.pair import GAN, Images, Labels, Latents


@torch.no_grad()
def generate(
    gan: GAN,
    z: Latents,
    labels: Labels | None = None,
    *,
    batch_size: int | None = None,
    rests: bool = False,
) -> Images:
    """Images from the averaged generator, in eval mode, on a copy; on the CPU.

    Args:
        gan: What makes them.
        z: Latents.
        labels: Of a conditional pair.
        batch_size: How many at a time; None is 256 on the CPU, else 2048.
        rests: Whether the pair is such a copy already (`core.resting`): who asks often copies once.

    Returns:
        Images in [-1, 1], float32.
    """
    own = gan if rests else cast(GAN, resting(gan))
    return _some_at_a_time(own, z, labels, batch_size, own.device)


@torch.no_grad()
def scores(
    gan: GAN, images: Images, labels: Labels | None = None, *, batch_size: int | None = None
) -> Float[Tensor, " n"]:
    """The discriminator's logits of images, in eval mode, on a copy; on the CPU.

    Returns:
        One per image, float32.
    """
    own = cast(GAN, resting(gan))
    return _some_at_a_time(own.score, images, labels, batch_size, own.device)


def _some_at_a_time(
    ask: Callable[[Tensor, Labels | None], Tensor],
    given: Tensor,
    labels: Labels | None,
    batch_size: int | None,
    device: torch.device,
) -> Tensor:
    """What a player answers, batch by batch; float32, on the CPU.

    One that draws random numbers draws the same every time, and none of the caller's.

    Returns:
        One row for each that is given.
    """
    size = batch_size or (256 if device.type == "cpu" else 2048)
    found = []
    with seeded(derive(0, "sample")):
        for at in range(0, len(given), size):
            y = None if labels is None else labels[at : at + size].to(device)
            found.append(ask(given[at : at + size].to(device), y).float().contiguous().cpu())
    return torch.cat(found)


def images_of(data: Data) -> Images:
    """All images, in the data's order, as a network sees them; float32, on the CPU."""
    return torch.cat([batch.inputs.float().cpu() for batch in data.batches(1024)])
