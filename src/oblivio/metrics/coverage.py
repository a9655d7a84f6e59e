"""How faithful generated images are, and how much of the real variety they cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from oblivio.core import Run, Score, Trial
from oblivio.generative import images_of
from oblivio.metrics._features import some
from oblivio.metrics._samples import Features, check_counts, reporter, samples


@dataclass(frozen=True)
class Coverage:
    """Density and coverage of generated images, in the reporting judge's features.

        density  = 1/(k M) Σ_j Σ_i [Y_j ∈ B_i]        coverage = 1/N Σ_i [some Y_j ∈ B_i]

    X_i are N images of D_r, Y_j the M generated images that the judge calls a retained class, and
    B_i is the ball around X_i that its k-th nearest neighbour among the X bounds. Density is about
    1 for images as faithful as real ones, and has no upper bound; coverage, in percent, is the part
    of real images that have a generated one near, which grows with M and falls where classes are
    lost on the way.

    Args:
        samples: How many images are generated.
        real: At most so many are taken of D_r.
        nearest: k.

    Raises:
        ValueError: If a count is too small; when called, if the images are ruined.

    Source: Naeem, Oh, Uh, Choi & Yoo 2020, "Reliable fidelity and diversity metrics for generative
    models", equations 4 and 5, k = 5.
    """

    samples: int = 2000
    real: int = 2000
    nearest: int = 5

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {
        "density": Score("Density", "", "up", "generated images where real ones are dense"),
        "coverage": Score("Coverage", "%", "up", "retained images with a generated one near"),
    }

    def __post_init__(self) -> None:
        check_counts(self, samples=1, real=2, nearest=1)

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Compare generated and retained images.

        Returns:
            Both numbers; none where D_r has no k neighbours.
        """
        made = samples(trial.unlearned, trial, run, self.samples).without(trial.split.gone)
        retained = some(trial.split.retain, self.real, 0)
        if len(retained) <= self.nearest:
            return {}
        x = reporter(trial, run).features(images_of(retained))
        density, share = covered(x, made.features, self.nearest)
        return {"density": density, "coverage": 100 * share}


def covered(x: Features, y: Float[Tensor, "m d"], k: int) -> tuple[float, float]:
    """Density and coverage of y against x, in float64; see `Coverage`.

    Returns:
        Both; 0 and 0 where y is empty.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0]])
        >>> covered(x, torch.tensor([[0.5], [9.0]]), 1)
        (1.0, 0.6666666666666666)
    """
    if len(y) == 0:
        return 0.0, 0.0
    # About a common middle, where distances lose least to rounding.
    middle = x.double().mean(0)
    x, y = x.double() - middle, y.double() - middle
    among = torch.cdist(x, x).fill_diagonal_(torch.inf)
    radius = among.kthvalue(k, dim=1).values
    inside = torch.cdist(x, y) < radius[:, None]
    return float(inside.sum()) / (k * len(y)), float(inside.any(1).double().mean())
