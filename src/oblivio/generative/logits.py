"""One logit per image, out of whatever a discriminator returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

LOGIT_NAMES = ("logits", "logit", "score", "scores", "validity", "adversarial", "output")
"""Under which of these names the logits of a discriminator that returns a dict are looked for."""

LEAST, MOST = 2.0**-100, 1 - 2.0**-24
"""Between which probabilities logits differ. The upper is the last float32 below 1; at the lower,
the slope 1/p leaves a loss room for a slope of its own before float32 overflows."""


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
            names = ", ".join(map(repr, output)) or "nothing"
            missing = "" if read is None else f" but no {read!r}"
            raise TypeError(
                f"The discriminator returns a dict with {names}{missing}: "
                "name the key of its logits, GAN(…, read=…)."
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
        flat = _logit(flat)
    return flat.mean(1)


def _logit(p: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """The logit ln p − ln(1 − p); finite at 0 and 1, where it is −69.3 and 16.6."""
    p = p.clamp(min=LEAST).where(p < 1, MOST)  # clamp has no slope at its ends, but MOST has one
    return p.log() - (-p).log1p()
