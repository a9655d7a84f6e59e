"""Generator, discriminator and average in one module."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from oblivio.core import Split
from oblivio.generative.logits import read_logits
from oblivio.generative.parts import check_players, own_average, tensors, without_history

Images = Float[Tensor, "n c h w"]
Latents = Float[Tensor, "n z"]
Labels = Int64[Tensor, " n"]


class GAN(nn.Module):
    """Generator G, discriminator D, and G's moving average, which is what samples are drawn from.

    G takes latents z ~ N(0, I) and, if it is conditional, labels; it gives images in [-1, 1]. D
    takes images (and labels); its logit is high for what it believes to be real.

    Args:
        generator: `G(z)` or `G(z, labels)`, from (n, latent) to (n, c, h, w).
        discriminator: `D(x)` or `D(x, labels)`, one number per image.
        latent: How many numbers z has.
        classes: How many classes a conditional pair knows; None is unconditional.
        average: The moving average of G's weights and buffers, or PyTorch's AveragedModel around
            it; it is frozen (`requires_grad_(False)`). None begins it as a copy of G.
        read: Which part of a dict (by key) or of a tuple (by place) holds D's logits; None looks
            for a usual name, or takes the first of a tuple.
        gives: Whether D gives logits or probabilities.

    Raises:
        TypeError: If a player or the average is no module, or `read` neither key nor place.
        ValueError: If the latent has no length, there are no classes, a layer's size is open, the
            players or the average share weights, or the average is not like G.
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
        check_players(generator, discriminator)
        for name, count in (("latent", latent), ("classes", 1 if classes is None else classes)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"{name} = {count!r} must be a whole number, 1 or more.")
        if not isinstance(read, str | int | None) or isinstance(read, bool):
            raise TypeError(
                f"read = {read!r} must be the key of D's logits (text), their place (a whole "
                "number), or None."
            )
        if not isinstance(gives, str) or gives not in ("logits", "probabilities"):
            raise ValueError(f"gives = {gives!r} must be 'logits' or 'probabilities'.")
        if average is None:
            average = copy.deepcopy(generator, without_history(generator, {}))
        self.generator, self.discriminator = generator, discriminator
        self.average = own_average(average, generator, discriminator).requires_grad_(False)
        self.latent, self.classes, self.read, self.gives = latent, classes, read, gives

    def __deepcopy__(self, memo: dict[int, Any]) -> GAN:
        """A copy, also of players that keep tensors with a history."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, without_history(self, memo)))
        return twin

    def forward(self, z: Latents, labels: Labels | None = None) -> Images:
        """Images from the averaged generator.

        Returns:
            As many.

        Raises:
            TypeError: If these are no latents; classifiers' methods and metrics give images.
        """
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise TypeError(
                f"This GAN makes images of latents of shape (n, {self.latent}), but was given "
                f"{tuple(z.shape)}; what is made for classifiers cannot be used on it: see "
                "oblivio.gan for methods."
            )
        return self.average(*self.given(z, labels))

    def make(self, z: Latents, labels: Labels | None = None) -> Images:
        """Images from the generator that learns."""
        return self.generator(*self.given(z, labels))

    def score(self, images: Images, labels: Labels | None = None) -> Float[Tensor, " n"]:
        """The discriminator's logits: how real the images seem to it.

        Returns:
            One per image.

        Raises:
            TypeError: If they cannot be read off what the discriminator returns.
        """
        output = self.discriminator(*self.given(images, labels))
        return read_logits(output, len(images), self.read, self.gives)

    def given(self, thing: Tensor, labels: Labels | None) -> tuple[Tensor, ...]:
        """What either player is called with: a conditional one hears labels too.

        Returns:
            The arguments.

        Raises:
            ValueError: If the pair is conditional and there are no labels.
        """
        if self.classes is None:
            return (thing,)
        if labels is None:
            raise ValueError(
                f"The GAN is conditional, so it needs a label from 0 to {self.classes - 1} beside "
                "every latent and every image, such as gan.labels(n, seed)."
            )
        return thing, labels

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

        Whole-number buffers, such as BatchNorm's count of batches, are taken over. What several
        layers share follows once.
        """
        here = dict(tensors(self.generator))
        there = {value.data_ptr(): (name, value) for name, value in tensors(self.average)}
        olds, news = [], []
        for name, value in there.values():
            if value.is_floating_point():
                olds.append(value)
                news.append(here[name])
            else:
                value.copy_(here[name])
        get_ema_multi_avg_fn(decay)(olds, news, 0)

    def check_fit(self, split: Split) -> None:
        """See that images and latents pass through a copy, and that shapes and ranges agree.

        Args:
            split: Real images as the pair was trained on; none to forget may also be retained.
        """
        from oblivio.generative.check import check_copies, check_pair

        check_pair(self, {"forget": split.forget, "retain": split.retain})
        check_copies(split)


def as_gan(model: nn.Module) -> GAN:
    """The model, if it is a GAN.

    Returns:
        The model itself.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(model, GAN):
        raise TypeError(
            f"A GAN is needed, not {type(model).__name__}: put generator and discriminator into "
            "oblivio.GAN(generator, discriminator, latent)."
        )
    return model
