"""What the two players minimise, by name."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Logits = Float[Tensor, " n"]
LossName = Literal["non_saturating", "hinge", "least_squares"]


def discriminator_loss(
    real: Logits, fake: Float[Tensor, " m"], loss: LossName
) -> Float[Tensor, ""]:
    """What D minimises.

        non-saturating   E[softplus(−D(x))] + E[softplus(D(G(z)))]
        hinge            E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))]
        least squares    ½ E[(D(x) − 1)²] + ½ E[D(G(z))²]

    Args:
        real: Logits of real images.
        fake: Logits of generated ones.
        loss: Which.

    Returns:
        A mean over images.
    """
    return loss_towards(real, loss, real=True) + loss_towards(fake, loss, real=False)


def loss_towards(logits: Logits, loss: LossName, *, real: bool) -> Float[Tensor, ""]:
    """D's loss for images that it is to call real, or not real.

    Returns:
        A mean over images.
    """
    if loss == "hinge":
        return F.relu(1 - logits if real else 1 + logits).mean()
    if loss == "least_squares":
        return 0.5 * (logits - float(real)).square().mean()
    return F.softplus(-logits if real else logits).mean()


def generator_loss(fake: Logits, loss: LossName) -> Float[Tensor, ""]:
    """What G minimises.

        non-saturating   E[softplus(−D(G(z)))]
        hinge            −E[D(G(z))]
        least squares    ½ E[(D(G(z)) − 1)²]

    Args:
        fake: Logits of generated images.
        loss: Which.

    Returns:
        A mean over images.
    """
    return -fake.mean() if loss == "hinge" else loss_towards(fake, loss, real=True)
