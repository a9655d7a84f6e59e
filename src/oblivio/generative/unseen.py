"""Images that a pair was never trained on, beside those that it is to forget."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from oblivio.core import Data, Split
from oblivio.generative.check import check_pair, contents
from oblivio.generative.pair import GAN


def unseen(gan: GAN, split: Split, held_out: Data | None) -> Data | None:
    """Held-out images of the classes of D_f; None if there are none.

    What D says of another class tells nothing of whether it knows an image.

    Args:
        gan: The pair.
        split: Whose D_f it is.
        held_out: What a run has; None is nothing.

    Returns:
        The images; `alike` weighs them.

    Raises:
        ValueError: If they do not suit the pair, or one is to be forgotten itself.
    """
    if held_out is None or len(held_out) == 0:
        return None
    check_pair(gan, {"held-out": held_out})
    known = set(contents(split.forget))
    if any(content in known for content in contents(held_out)):
        raise ValueError(
            "The held-out images hold one that is to be forgotten, so they are not unseen: take "
            "images that the GAN was never trained on."
        )
    found = of_the_classes(held_out, split.forget)
    return found if len(found) else None


def of_the_classes(data: Data, like: Data) -> Data:
    """Those examples whose class occurs in the other data."""
    return data.take(torch.where(torch.isin(data.labels, like.labels.to(data.labels)))[0])


def alike(others: Int64[Tensor, " m"], these: Int64[Tensor, " n"]) -> Float64[Tensor, " m"]:
    """Weights under which the classes of others are as frequent as those of these.

    Args:
        others: The classes of what is weighed.
        these: Those to be like; what no other has is left out.

    Returns:
        One weight each, 1 in all; 0 for a class that is not among these.

    Raises:
        ValueError: If the two have no class in common.

    Example:
        >>> alike(torch.tensor([0, 0, 1, 7]), torch.tensor([0, 1, 1, 1])).tolist()
        [0.125, 0.125, 0.75, 0.0]
    """
    others, these = others.cpu(), these.cpu()
    most = 1 + int(torch.cat([others, these]).max())
    there, here = (labels.bincount(minlength=most).double() for labels in (others, these))
    weights = (here / there).where(there > 0, 0.0)[others]
    if not float(weights.sum()) > 0:
        raise ValueError("The two sets have no class in common.")
    return weights / weights.sum()
