"""A generative adversarial network as one module: generator, discriminator, and the average.

What a discriminator returns differs from code to code; `GAN` reads logits off a tensor of logits or
of probabilities, a dict, or a tuple, and says clearly what it cannot read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from oblivio.core import Split, convolves

Images = Float[Tensor, "n c h w"]
Latents = Float[Tensor, "n z"]
Labels = Int64[Tensor, " n"]

LOGIT_NAMES = ("logits", "logit", "score", "scores", "validity", "adversarial", "output")
"""Under which of these names the logits of a discriminator that returns a dict are looked for."""


class GAN(nn.Module):
    """Generator G, discriminator D, and G's moving average, which is what samples are drawn from.

    G takes latents z ~ N(0, I) and, if it is conditional, labels; it gives images in [-1, 1]. D
    takes images (and labels); its logit is high for what it believes to be real.

    Args:
        generator: `G(z)` or `G(z, labels)`, from (n, latent) to (n, c, h, w).
        discriminator: `D(x)` or `D(x, labels)`, one number per image.
        latent: How many numbers z has.
        classes: How many classes a conditional pair knows; None is unconditional.
        average: The moving average of G's weights and buffers; None begins it as a copy of G.
        read: Which part of a dict (by key) or of a tuple (by place) holds D's logits; None looks
            for a usual name, or takes the first of a tuple.
        gives: Whether D gives logits or probabilities.

    Raises:
        ValueError: If the latent has no length.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent: int,
        *,
        classes: int | None = None,
        average: nn.Module | None = None,
        read: str | int | None = None,
        gives: Literal["logits", "probabilities"] = "logits",
    ) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"latent = {latent} must be 1 or more.")
        if gives not in ("logits", "probabilities"):
            raise ValueError(f"gives = {gives!r} must be 'logits' or 'probabilities'.")
        self.generator, self.discriminator = generator, discriminator
        self.average = copy.deepcopy(generator) if average is None else average
        self.average.requires_grad_(False)
        self.latent, self.classes, self.read, self.gives = latent, classes, read, gives

    def forward(self, z: Latents, labels: Labels | None = None) -> Images:
        """Images from the averaged generator."""
        return self.average(z) if self.classes is None else self.average(z, labels)

    def make(self, z: Latents, labels: Labels | None = None) -> Images:
        """Images from the generator that learns."""
        return self.generator(z) if self.classes is None else self.generator(z, labels)

    def score(self, images: Images, labels: Labels | None = None) -> Float[Tensor, " n"]:
        """The discriminator's logits: how real the images seem to it.

        Returns:
            One per image.

        Raises:
            TypeError: If they cannot be read off what the discriminator returns.
        """
        given = (images,) if self.classes is None else (images, labels)
        return read_logits(self.discriminator(*given), len(images), self.read, self.gives)

    def latents(self, n: int, seed: int) -> Latents:
        """Latents from a seed, drawn on the CPU, so that they do not depend on the device."""
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(n, self.latent, generator=draw).to(self.device)

    def labels(self, n: int, seed: int) -> Labels | None:
        """Labels from a seed, all classes alike; None where the pair is unconditional."""
        if self.classes is None:
            return None
        draw = torch.Generator().manual_seed(seed)
        return torch.randint(self.classes, (n,), generator=draw).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next((p.device for p in self.generator.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Let the average follow the generator: ā ← decay · ā + (1 − decay) · a; buffers likewise.

        Whole-number buffers, such as BatchNorm's count of batches, are taken over.
        """
        there, here = self.average.state_dict(), self.generator.state_dict()
        floating = [name for name, value in there.items() if value.is_floating_point()]
        olds, news = [there[name] for name in floating], [here[name] for name in floating]
        get_ema_multi_avg_fn(decay)(olds, news, 0)
        for name in there.keys() - set(floating):
            there[name].copy_(here[name])

    @torch.no_grad()
    def check_fit(self, split: Split) -> None:
        """See that images and latents pass through a copy, and that shapes and ranges agree.

        Args:
            split: Real images as the pair was trained on.

        Raises:
            TypeError: If the discriminator's output cannot be read.
            ValueError: If shapes differ, images leave [-1, 1], or a label is unknown.
        """
        own = copy.deepcopy(self).eval()
        for name, data in (("forget", split.forget), ("retain", split.retain)):
            batch = next(data.take(torch.arange(min(len(data), 64))).batches(64))
            images, labels = batch.inputs.to(own.device), batch.labels.to(own.device)
            check_images(images, f"The {name} set's images")
            if own.classes is not None and int(data.labels.max()) >= own.classes:
                raise ValueError(
                    f"The {name} set has label {int(data.labels.max())}, but the conditional GAN "
                    f"knows {own.classes} classes (labels 0 to {own.classes - 1})."
                )
            made = own(own.latents(len(images), 0), labels)
            if made.shape[1:] != images.shape[1:]:
                raise ValueError(
                    f"The generator makes images of shape {tuple(made.shape[1:])}, but the {name} "
                    f"set's are {tuple(images.shape[1:])}."
                )
            own.score(images, labels)


def check_images(images: Tensor, what: str = "Images") -> None:
    """See that these are images in [-1, 1], as a generator that ends in tanh makes them.

    Raises:
        ValueError: If they are not, or seem to be in [0, 1].
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"{what} must be floating-point tensors (n, c, h, w); they are {images.dtype} of shape "
            f"{tuple(images.shape)}."
        )
    low, high = float(images.min()), float(images.max())
    if low < -1.001 or high > 1.001:
        raise ValueError(
            f"{what} must be in [-1, 1], as the generator makes them; they go from {low:.3g} to "
            f"{high:.3g}. For pixels in [0, 1] give Arrays(…, mean=(0.5,), std=(0.5,))."
        )
    if low >= 0 and len(images) > 1:
        raise ValueError(
            f"{what} must be in [-1, 1], as the generator makes them; they go from {low:.3g} to "
            f"{high:.3g}, which looks like [0, 1]: give Arrays(…, mean=(0.5,), std=(0.5,))."
        )


def read_logits(
    output: Any, n: int, read: str | int | None = None, gives: str = "logits"
) -> Float[Tensor, " n"]:
    """One logit per image out of what a discriminator returned.

    Args:
        output: A tensor, a dict, a tuple or a list.
        n: How many images it was given.
        read: The key or the place of the tensor; None looks for a usual name, or takes the first.
        gives: "logits", or "probabilities", which are turned into logits.

    Returns:
        The logits; a tensor (n, 1, h, w), as of a discriminator of patches, is averaged.

    Raises:
        TypeError: If there is no such part, or not one number per image.
    """
    found = output
    if isinstance(output, Mapping):
        key = read if read is not None else next((k for k in LOGIT_NAMES if k in output), None)
        if key is None and len(output) == 1:
            key = next(iter(output))
        if key not in output:
            raise TypeError(
                f"The discriminator returns a dict without {key!r}: name the key of its logits, "
                f"GAN(…, read=…); there are {', '.join(map(repr, output))}."
            )
        found = output[key]
    elif isinstance(output, tuple | list):
        place = 0 if read is None else read
        if not isinstance(place, int) or not -len(output) <= place < len(output):
            raise TypeError(
                f"The discriminator returns {len(output)} things, of which {place!r} is none: give "
                "the place of its logits, GAN(…, read=0)."
            )
        found = output[place]
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise TypeError(
            f"The discriminator's logits must be a floating-point tensor, not "
            f"{found.dtype if isinstance(found, Tensor) else type(found).__name__}: say with "
            "GAN(…, read=…) where they stand in what it returns."
        )
    if found.ndim == 0 or len(found) != n or (found.ndim > 1 and found.shape[1] != 1):
        raise TypeError(
            f"The discriminator must give one number per image, shape ({n},) or ({n}, 1); it gave "
            f"{tuple(found.shape)}."
        )
    flat = found.reshape(n, -1)
    if gives == "probabilities":
        flat = flat.float()
        if float(flat.detach().min()) < 0 or float(flat.detach().max()) > 1:
            raise TypeError(
                "The discriminator is said to give probabilities, but gives numbers outside "
                '[0, 1]: leave out gives="probabilities".'
            )
        flat = torch.logit(flat, 1e-6)
    return flat.mean(1)


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
    own = copy.deepcopy(gan.average).eval()
    if convolves(own):
        own.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    size = batch_size or (256 if gan.device.type == "cpu" else 2048)
    parts = []
    for at in range(0, len(z), size):
        some = z[at : at + size].to(gan.device)
        if gan.classes is None or labels is None:
            parts.append(own(some))
        else:
            parts.append(own(some, labels[at : at + size].to(gan.device)))
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
    size = batch_size or (256 if gan.device.type == "cpu" else 2048)
    found = []
    for at in range(0, len(images), size):
        y = None if labels is None else labels[at : at + size].to(gan.device)
        found.append(own.score(images[at : at + size].to(gan.device), y).float().cpu())
    return torch.cat(found)
