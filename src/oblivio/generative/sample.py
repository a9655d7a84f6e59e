"""What the averaged generator makes, and what the discriminator says of images."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from oblivio.core import convolves
from oblivio.generative.pair import GAN, Images, Labels, Latents


@torch.no_grad()
def generate(
    gan: GAN, z: Latents, labels: Labels | None = None, *, batch_size: int | None = None
) -> Images:
    """Images from the averaged generator, in eval mode, on a copy; on the CPU.

    Args:
        gan: What makes them.
        z: Latents.
        labels: Of a conditional pair.
        batch_size: How many at a time; None is 256 on the CPU, else 2048.

    Returns:
        Images in [-1, 1], float32.
    """
    own = copy.deepcopy(gan).eval()
    if convolves(own):
        own.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    size = batch_size or (256 if gan.device.type == "cpu" else 2048)
    parts = []
    for at in range(0, len(z), size):
        y = None if labels is None else labels[at : at + size].to(gan.device)
        parts.append(own(z[at : at + size].to(gan.device), y))
    return torch.cat([part.float().contiguous().cpu() for part in parts])


@torch.no_grad()
def scores(
    gan: GAN, images: Images, labels: Labels | None = None, *, batch_size: int | None = None
) -> Float[Tensor, " n"]:
    """The discriminator's logits of images, in eval mode, on a copy; on the CPU.

    Returns:
        One per image, float32.
    """
    own = copy.deepcopy(gan).eval()
    if convolves(own):
        own.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    size = batch_size or (256 if gan.device.type == "cpu" else 2048)
    found = []
    for at in range(0, len(images), size):
        y = None if labels is None else labels[at : at + size].to(gan.device)
        found.append(own.score(images[at : at + size].to(gan.device), y).float().cpu())
    return torch.cat(found)
