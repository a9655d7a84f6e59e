"""RULI: whether an unlearned model tells what it was made to forget from what it never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from oblivio.core import Score
from oblivio.evidence._likelihood import Density, told_apart
from oblivio.evidence._sample import parted
from oblivio.shadow import Design, Shadows


@dataclass(frozen=True)
class Ruli:
    """RULI: tells whether a model unlearned a point or never saw it, from unlearned models alone.

    For each x of D_f, φ(x) of the unlearned models whose H_t held x, and forgot it, are compared
    with φ(x) of the unlearned models whose H_t did not:

        Λ = p_unlearned(φ) / (p_unlearned(φ) + p_never(φ)),    "unlearned" if Λ > ½

    with densities as in U-LiRA, which compares with retrained models instead: it also sees whatever
    else unlearning does to a model, while RULI asks what anyone who holds the unlearned model can
    learn of who asked to be forgotten. A perfect method gives 50 %, but for what the shadows that
    saw a point have in common by chance, which its null shows; the ceiling is the attack of Carlini
    et al. 2022 on the originals. Harm that all unlearned models share gives nobody away, and of a
    class that is forgotten as a whole every half says the same: there the ceiling is low.

    Args:
        density: "kde", or "gaussian".

    Raises:
        TooFew: When called, if there are fewer than 8 shadow models that saw each point, or fewer
            than 8 that did not. A true positive rate is left out if there are fewer than 1/FPR
            answers of models that did not.

    Source: Naderloui et al. 2025, "Rectifying privacy and efficacy measurements in machine
    unlearning: a new inference attack perspective", the game of privacy. Ours: complementary halves
    and leaving models out, as in U-LiRA; D_f is as it comes, not chosen for its vulnerability.
    """

    density: Density = "kde"

    design: ClassVar[Design] = "halves"
    scores: ClassVar[Mapping[str, Score]] = {
        "ruli_accuracy": Score(
            "RULI", "%", "down", "forgotten told from never seen, per point; 50 is a coin"
        ),
        "ruli_auc": Score(
            "RULI AUC", "%", "down", "area under the ROC curve over all points; 50 is a coin"
        ),
        "ruli_tpr_1": Score(
            "RULI TPR @ 1 %", "%", "down", "true positives at 1 % false ones; 1 is a coin"
        ),
        "ruli_tpr_01": Score(
            "RULI TPR @ 0.1 %", "%", "down", "true positives at 0.1 % false ones; 0.1 is a coin"
        ),
    }

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """The four numbers, the ROC curve, and each point's accuracy."""
        found = told_apart(*parted(shadows, "unlearned", "forget"), self.density)
        return {f"ruli_{k}" if f"ruli_{k}" in self.scores else k: v for k, v in found.items()}
