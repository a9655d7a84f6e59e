"""What is wrong with a pair or with its images is said before anything is trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from oblivio.core import Batch, Data, Split, derive, seeded
from oblivio.generative.logits import read_logits
from oblivio.generative.pair import GAN, Images, Labels, Latents
from oblivio.generative.parts import check_players, own_average

WILD = 1e4  # at this size of its inputs, a sigmoid gives 0 or 1
LOOKED_AT = 64  # images of a set that pass through the players
LEARNED = 4  # images that gradients are taken of


def check_pair(gan: GAN, sets: Mapping[str, Data]) -> None:
    """See on a copy that a pair and real images suit each other, and that both players can learn.

    Args:
        gan: The pair.
        sets: The images, by what errors are to call them. 64 of each pass through the players; the
            range is that of all that are in memory, and of these where a Dataset would be read.

    Raises:
        TypeError: If a set is not Data, or a player's output cannot be read.
        ValueError: If types, shapes or ranges differ, a player fails or cannot learn, a label is
            unknown, or gradients are switched off.
    """
    if not torch.is_grad_enabled():
        raise ValueError(
            "A GAN cannot learn under torch.no_grad() or torch.inference_mode(): leave that."
        )
    check_players(gan.generator, gan.discriminator)
    own_average(gan.average, gan.generator, gan.discriminator)
    for weight in gan.parameters():
        if weight.dtype != torch.float32:
            raise ValueError(f"A GAN's weights must be torch.float32, not {weight.dtype}.")
    with torch.no_grad(), seeded(derive(0, "check")):  # networks and Datasets may draw
        own = copy.deepcopy(gan).eval()
        looked_at = _looked_at(sets)
        for name, (images, labels) in looked_at.items():
            _check_set(own, name, images.to(own.device), labels.to(own.device), sets[name])
        for images, labels in list(looked_at.values())[:1]:
            _check_learning(own.train(), images.to(own.device), labels.to(own.device))


def _looked_at(sets: Mapping[str, Data]) -> dict[str, tuple[Images, Labels]]:
    """Some images of each set that is not empty, once their types and all ranges are seen to fit.

    Returns:
        Images and labels.

    Raises:
        TypeError: If a set is not Data.
        ValueError: If images are no images in [-1, 1], or those of all sets seem to be in [0, 1].
    """
    found, least, most, n = dict[str, tuple[Images, Labels]](), math.inf, -math.inf, 0
    for name, data in sets.items():
        if not isinstance(data, Data):
            raise TypeError(
                f"The {name} set must be oblivio.as_data((images, labels)), or as_data(dataset), "
                f"not a {type(data).__name__}."
            )
        if len(data) == 0:
            continue
        some = data.take(torch.arange(min(len(data), LOOKED_AT)))
        batch = next(some.batches(LOOKED_AT))
        _check_type(batch.inputs, f"The {name} set's images")
        whole = isinstance(getattr(data, "inputs", None), Tensor)
        batches = data.batches(1024) if whole else [batch]
        low, high = _range(batches, data.ids, f"The {name} set's images")
        least, most, n = min(least, low), max(most, high), n + len(data)
        found[name] = batch.inputs, batch.labels
    for name in list(found)[:1]:
        _check_unit(least, most, n, f"The {name} set's images")
    return found


def _range(batches: Iterable[Batch], ids: Labels, what: str) -> tuple[float, float]:
    """From where to where pixels go.

    Returns:
        The least and the most.

    Raises:
        ValueError: If an image leaves [-1, 1]; its id is said.
    """
    ends, at = [], 0
    for batch in batches:
        low, high = map(float, torch.aminmax(batch.inputs))
        if not _inside(low, high):
            lows, highs = torch.aminmax(batch.inputs.flatten(1), dim=1)
            inside = [_inside(*both) for both in zip(lows, highs, strict=True)]
            _refuse(low, high, what, f" (first at id {int(ids[at + inside.index(False)])})")
        ends.append((low, high))
        at += len(batch.inputs)
    return min(low for low, _ in ends), max(high for _, high in ends)


def _check_set(gan: GAN, name: str, images: Images, labels: Labels, data: Data) -> None:
    """See that a set's labels are known, and that its images pass through both players."""
    if gan.classes is not None and int(data.labels.max()) >= gan.classes:
        raise ValueError(
            f"The {name} set has label {int(data.labels.max())}, but the conditional GAN "
            f"knows {gan.classes} classes (labels 0 to {gan.classes - 1})."
        )
    z = gan.latents(len(images), 0)
    made = _tried(gan.generator, gan.given(z, labels), "generator", "latents")
    _check_made(made, images, name)
    for some in (images, made):
        output = _tried(gan.discriminator, gan.given(some, labels), "discriminator", "images")
        read_logits(output, len(some), gan.read, gan.gives)
    _check_ends(gan, images, z, labels)


def _check_learning(gan: GAN, images: Images, labels: Labels) -> None:
    """See that what D says has a gradient for a weight of either player.

    Raises:
        ValueError: If it has none.
    """
    rows = torch.arange(LEARNED, device=images.device) % len(images)
    some, told, z = images[rows], labels[rows], gan.latents(LEARNED, 0)
    says: dict[str, Callable[[], Tensor]] = {
        "generator": lambda: gan.score(gan.make(z, told), told),
        "discriminator": lambda: gan.score(some, told),
    }
    for who, player in (("generator", gan.generator), ("discriminator", gan.discriminator)):
        weights = [p for p in player.parameters() if p.requires_grad]
        if not weights:
            frozen = bool(list(player.parameters()))
            how = f"unfreeze it with gan.{who}.requires_grad_(True)" if frozen else "give it some"
            raise ValueError(
                f"The {who} has no weights{' that are not frozen' * frozen}, so it cannot learn: "
                f"{how}."
            )
        with torch.enable_grad():
            logits = says[who]()
            slopes = (
                torch.autograd.grad(logits.sum(), weights, allow_unused=True)
                if logits.requires_grad
                else ()
            )
        if all(slope is None for slope in slopes):
            raise ValueError(
                f"No weight of the {who} gets a gradient from what the discriminator says, so it "
                "cannot learn: let no forward() run under torch.no_grad() or detach what it is "
                "given or gives."
            )


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
    known = dict(zip(contents(forget), forget.ids.tolist(), strict=True))
    retained = zip(contents(split.retain), split.retain.ids.tolist(), strict=True)
    copies = [f"{known[content]} (as {id_})" for content, id_ in retained if content in known]
    if copies:
        more = f" and {len(copies) - 5} more" if len(copies) > 5 else ""
        raise ValueError(
            f"Images that are to be forgotten are retained under other ids: "
            f"{', '.join(copies[:5])}{more}. Forget those too, or leave them out of the training "
            "data."
        )


def contents(data: Data) -> Iterator[bytes]:
    """What each image consists of."""
    for batch in data.batches(256):
        yield from (image.tobytes() for image in batch.inputs.cpu().numpy())


def check_images(images: Tensor, what: str = "Images") -> None:
    """See that these are images in [-1, 1], as a generator that ends in tanh makes them.

    Raises:
        ValueError: If they are not, or seem to be in [0, 1].
    """
    _check_type(images, what)
    low, high = float(images.min()), float(images.max())
    if not _inside(low, high):
        _refuse(low, high, what)
    _check_unit(low, high, len(images), what)


def _check_type(images: Tensor, what: str) -> None:
    if images.ndim != 4 or images.dtype != torch.float32:
        raise ValueError(
            f"{what} must be torch.float32 of shape (n, channels, height, width); they are "
            f"{images.dtype} of shape {tuple(images.shape)}."
        )


def _inside(low: float | Tensor, high: float | Tensor) -> bool:
    """Whether these are the ends of a range in [-1, 1]; those of NaN are not."""
    return bool(low >= -1.001) and bool(high <= 1.001)


def _refuse(low: float, high: float, what: str, which: str = "") -> NoReturn:
    """Say that images leave [-1, 1]."""
    raise ValueError(
        f"{what} must be in [-1, 1], as the generator makes them; they go from {low:.3g} to "
        f"{high:.3g}{which}. For pixels in [0, 1] give 2 * images - 1, for bytes Arrays(…, "
        "mean=(0.5,), std=(0.5,))."
    )


def _check_unit(low: float, high: float, n: int, what: str) -> None:
    """See that some images, if they are more than one, are not all bright."""
    if low >= 0 and n > 1:
        raise ValueError(
            f"{what} must be in [-1, 1], as the generator makes them; they go from {low:.3g} to "
            f"{high:.3g}, which looks like [0, 1]: give 2 * images - 1, or Arrays(…, mean=(0.5,), "
            "std=(0.5,))."
        )
