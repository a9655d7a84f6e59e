"""The fake label without the substitution: what the discriminator alone can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from oblivio.adversarial import Adversarial
from oblivio.core import Part, Run, Split
from oblivio.gan._label import LabelName
from oblivio.gan.cascade import Cascade


@dataclass(frozen=True)
class FakeLabelOnly:
    """Tells D that forgotten images are not real, by turns with learning; G has to follow.

    The cascade without its substitution: what that adds is the difference of the two.

    Args:
        fake_label: What D is to say of forgotten images; see `Cascade`.
        learn: Learning turns for each unlearning one.
        closing: The share of all turns that close with learning.
        recipe: Of both players; its steps are all turns.

    Raises:
        ValueError: If a number is out of range, there is no such label, or the steps leave no turn
            for unlearning.
    """

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})

    fake_label: LabelName = "auto"
    learn: int = 4
    closing: float = 0.3
    recipe: Adversarial = Adversarial(steps=200)

    def __post_init__(self) -> None:
        self._cascade()  # which looks at the settings

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """The unlearned pair.

        Returns:
            The pair, in eval mode.
        """
        return self._cascade()(model, split, run)

    def _cascade(self) -> Cascade:
        return Cascade(
            substitute="none",
            fake_label=self.fake_label,
            learn=self.learn,
            closing=self.closing,
            recipe=self.recipe,
        )
