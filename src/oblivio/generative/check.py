"""What is wrong with a pair or with its images is said before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oblivio.core import Data, Split
from oblivio.generative.logits import read_logits
from oblivio.generative.pair import GAN, Images, Labels, Latents

WILD = 1e4  # at this size of its inputs, a sigmoid gives 0 or 1


@torch.no_grad()
def check_pair(gan: GAN, sets: Mapping[str, Data]) -> None:
    """See on a copy that a pair and real images suit each other.

    Args:
        gan: The pair.
        sets: The images, by what errors are to call them; of each set, 64 are looked at.

    Raises:
        TypeError: If a set is not Data, or a player's output cannot be read.
        ValueError: If types, shapes or ranges differ, a player fails, or a label is unknown.
    """
    own = copy.deepcopy(gan).eval()
    for weight in own.parameters():
        if weight.dtype != torch.float32:
            raise ValueError(f"A GAN's weights must be torch.float32, not {weight.dtype}.")
    for name, data in sets.items():
        if not isinstance(data, Data):
            raise TypeError(
                f"The {name} set must be oblivio.as_data((images, labels)), or as_data(dataset), "
                f"not a {type(data).__name__}."
            )
        batch = next(data.take(torch.arange(min(len(data), 64))).batches(64))
        images, labels = batch.inputs.to(own.device), batch.labels.to(own.device)
        check_images(images, f"The {name} set's images")
        if own.classes is not None and int(data.labels.max()) >= own.classes:
            raise ValueError(
                f"The {name} set has label {int(data.labels.max())}, but the conditional GAN "
                f"knows {own.classes} classes (labels 0 to {own.classes - 1})."
            )
        z = own.latents(len(images), 0)
        made = _tried(own.generator, own.given(z, labels), "generator", "latents")
        _check_made(made, images, name)
        for some in (images, made):
            output = _tried(own.discriminator, own.given(some, labels), "discriminator", "images")
            read_logits(output, len(some), own.read, own.gives)
        _check_ends(own, images, z, labels)


def _tried(player: nn.Module, given: tuple[Tensor, ...], who: str, what: str) -> Any:
    """What a player returns; if it fails, why, in a sentence."""
    try:
        return player(*given)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        shape, labels = tuple(given[0].shape), " and labels" * (len(given) > 1)
        if what == "latents" and "conv" in reason:
            size = f"{shape[1]}, 1, 1"
            reason += f"; one that takes (n, {size}) needs nn.Unflatten(1, ({size})) before it"
        raise ValueError(
            f"The {who} cannot take {what} of shape {shape}{labels}: {reason}."
        ) from error


def _check_made(made: Any, images: Images, name: str) -> None:
    """See that generated images are like real ones in type and shape, and roughly in range."""
    if not isinstance(made, Tensor) or not made.is_floating_point():
        got = made.dtype if isinstance(made, Tensor) else type(made).__name__
        raise TypeError(f"The generator must return floating-point images alone, not {got}.")
    if made.shape != images.shape:
        raise ValueError(
            f"The generator makes images of shape {tuple(made.shape[1:])}, but the {name} set's "
            f"are {tuple(images.shape[1:])}."
        )
    low, high = float(made.min()), float(made.max())
    if not low >= -2 or not high <= 2:  # so that NaN is refused
        raise ValueError(
            f"The generator makes images from {low:.3g} to {high:.3g}, but they must be in "
            "[-1, 1], as real ones are: let it end with nn.Tanh()."
        )


def _check_ends(gan: GAN, images: Images, z: Latents, labels: Labels) -> None:
    """See that no player ends in a sigmoid unsaid: what comes of inputs beyond all bounds tells.

    Raises:
        ValueError: If one does.
    """
    if _in_unit_interval(gan.make(WILD * z, labels)):
        raise ValueError(
            "The generator makes images in [0, 1] alone, but they must be in [-1, 1], as real ones "
            "are: let it end with nn.Tanh() in the place of its sigmoid."
        )
    draw = torch.Generator().manual_seed(0)
    noise = WILD * torch.randn(images.shape, generator=draw).to(images)
    if gan.gives == "logits" and _in_unit_interval(gan.score(noise, labels)):
        raise ValueError(
            "The discriminator gives numbers in [0, 1] alone, so they must be probabilities: say "
            'so with GAN(…, gives="probabilities"), or leave out its sigmoid.'
        )


def _in_unit_interval(values: Tensor) -> bool:
    """Whether all are in [0, 1]; some that hardly differ, as of a constant, tell nothing."""
    low, high = float(values.min()), float(values.max())
    return low >= 0 and high <= 1 and high - low > 0.2


def check_copies(split: Split) -> None:
    """See that no image that is to be forgotten is retained under another id, bit by bit the same.

    Images of classes that are gone as a whole are not looked at: what is retained under another
    label is of that other class.

    Raises:
        ValueError: If one is.
    """
    single = ~torch.isin(split.forget.labels, split.gone)
    if not bool(single.any()):
        return
    forget = split.forget.take(torch.where(single)[0])
    known = dict(zip(_contents(forget), forget.ids.tolist(), strict=True))
    retained = zip(_contents(split.retain), split.retain.ids.tolist(), strict=True)
    copies = [f"{known[content]} (as {id_})" for content, id_ in retained if content in known]
    if copies:
        more = f" and {len(copies) - 5} more" if len(copies) > 5 else ""
        raise ValueError(
            f"Images that are to be forgotten are retained under other ids: "
            f"{', '.join(copies[:5])}{more}. Forget those too, or leave them out of the training "
            "data."
        )


def _contents(data: Data) -> Iterator[bytes]:
    """What each image consists of."""
    for batch in data.batches(256):
        yield from (image.tobytes() for image in batch.inputs.cpu().numpy())


def check_images(images: Tensor, what: str = "Images") -> None:
    """See that these are images in [-1, 1], as a generator that ends in tanh makes them.

    Raises:
        ValueError: If they are not, or seem to be in [0, 1].
    """
    if images.ndim != 4 or images.dtype != torch.float32:
        raise ValueError(
            f"{what} must be torch.float32 of shape (n, channels, height, width); they are "
            f"{images.dtype} of shape {tuple(images.shape)}."
        )
    low, high = float(images.min()), float(images.max())
    if not low >= -1.001 or not high <= 1.001:  # so that NaN is refused
        raise ValueError(
            f"{what} must be in [-1, 1], as the generator makes them; they go from {low:.3g} to "
            f"{high:.3g}. For pixels in [0, 1] give 2 * images - 1, for bytes Arrays(…, "
            "mean=(0.5,), std=(0.5,))."
        )
    if low >= 0 and len(images) > 1:
        raise ValueError(
            f"{what} must be in [-1, 1], as the generator makes them; they go from {low:.3g} to "
            f"{high:.3g}, which looks like [0, 1]: give 2 * images - 1, or Arrays(…, mean=(0.5,), "
            "std=(0.5,))."
        )
