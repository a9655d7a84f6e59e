"""Fine-tuning a GAN on the retained images: the strong baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.adversarial import Adversarial, as_gan, fit_gan
from oblivio.core import Part, Run, Split


@dataclass(frozen=True)
class FineTune:
    """Goes on training both players on the retained images alone.

    What is forgotten fades because nothing calls it real any more: D learns to tell it from what is
    retained, and G to avoid it. Optimisers begin anew.

    Args:
        recipe: How; its steps are the budget.
    """

    reads: ClassVar[frozenset[Part]] = frozenset({"retain"})

    recipe: Adversarial = Adversarial(steps=100)

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """The fine-tuned pair.

        Returns:
            The pair, in eval mode.
        """
        return fit_gan(as_gan(model), split.retain, self.recipe, run)
