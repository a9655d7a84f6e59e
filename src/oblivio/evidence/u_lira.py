"""U-LiRA: the likelihood-ratio attack on unlearning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from oblivio.core import Score
from oblivio.evidence._likelihood import Density, told_apart
from oblivio.evidence._sample import enough
from oblivio.shadow import Design, Shadows


@dataclass(frozen=True)
class ULira:
    """U-LiRA: tells models that unlearned a point from models that never saw it, point by point.

    For each x of D_f, φ(x) of the m unlearned shadow models whose H_t held x are compared with φ(x)
    of the retrained ones of the same shadows:

        Λ = N_U(φ) / (N_U(φ) + N_R(φ)),    "unlearned" if Λ > ½

    where the densities N_U and N_R are fitted to all shadows but the one that is judged. The game
    has as many answers of either kind, so a perfect method gives 50 % accuracy and AUC, and a true
    positive rate that equals the false positive rate; a full ceiling is 100 %. The accuracy is a
    mean over points, each judged by its own threshold; AUC and true positive rates are of all
    points' Λ together. A Λ of ½ counts half. With fewer than 64 models points share one σ. Leaving
    out makes the AUC of a perfect method a little low, since scores that are compared are fitted to
    each other: 46 for 2 points and 8 models each, 49 for 20 points; the accuracy is not touched.

    Args:
        density: "gaussian", or "kde", which also sees differences in shape.

    Raises:
        TooFew: When called, if there are fewer than 8 shadow models that saw each point. A true
            positive rate is left out if there are fewer than 1/FPR answers of retrained models.

    Source: Hayes et al. 2024, "Inexact unlearning needs more careful evaluations to avoid a false
    sense of privacy"; densities as Carlini et al. 2022, "Membership inference attacks from first
    principles". Ours: complementary halves, and every shadow is left out in turn.
    """

    density: Density = "gaussian"

    design: ClassVar[Design] = "halves"
    scores: ClassVar[Mapping[str, Score]] = {
        "u_lira_accuracy": Score(
            "U-LiRA", "%", "down", "unlearned told from retrained models, per point; 50 is a coin"
        ),
        "u_lira_auc": Score(
            "U-LiRA AUC", "%", "down", "area under the ROC curve over all points; 50 is a coin"
        ),
        "u_lira_tpr_1": Score(
            "U-LiRA TPR @ 1 %", "%", "down", "true positives at 1 % false ones; 1 is a coin"
        ),
        "u_lira_tpr_01": Score(
            "U-LiRA TPR @ 0.1 %", "%", "down", "true positives at 0.1 % false ones; 0.1 is a coin"
        ),
    }

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """The four numbers, the ROC curve, and each point's accuracy."""
        unlearned, retrained = shadows.versus()
        enough(len(unlearned), 8, "shadow models that saw each point", "fit its two densities")
        found = told_apart(unlearned, retrained, self.density)
        return {f"u_lira_{k}" if f"u_lira_{k}" in self.scores else k: v for k, v in found.items()}
