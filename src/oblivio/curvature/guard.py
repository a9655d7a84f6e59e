"""Before curvature is measured: whether model and data say the same twice."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from oblivio.core import Data
from oblivio.curvature.gradients import mean_gradient
from oblivio.train import Loss


def check_deterministic(
    model: nn.Module,
    data: Data,
    loss: Loss = F.cross_entropy,
    *,
    examples: int = 256,
    tolerance: float = 1e-3,
) -> None:
    """Take the gradient over the first examples twice, and compare.

    Curvature belongs to one function of the weights. Where inputs are drawn anew at every pass, or
    a layer draws random numbers in eval mode, there is no such function.

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        data: What the curvature is to be taken over.
        loss: Of logits and labels, a mean over the examples.
        examples: How many to look at.
        tolerance: How far the gradients may be apart, relative to their length: a GPU may sum up in
            another order.

    Raises:
        ValueError: If the two differ.
    """
    few = data.take(torch.arange(min(examples, len(data))))
    one, two = (mean_gradient(model, few, loss, batch_size=examples) for _ in range(2))
    apart, length = float((one - two).norm()), float(one.norm())
    if apart > tolerance * length:
        raise ValueError(
            f"The gradient of the first {len(few)} examples differs from one pass to the next, by "
            f"{100 * apart / length if length else 100:.2g} % of its length: curvature needs a "
            f"model and data without chance. Look for random transforms in the Dataset, and for "
            f"random layers that ignore eval mode, such as F.dropout without training=False."
        )
