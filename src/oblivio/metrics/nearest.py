"""How near generated images come to those that are to be forgotten."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from oblivio.core import Run, Score, Trial
from oblivio.generative import Images, images_of
from oblivio.metrics._features import some
from oblivio.metrics._samples import check_counts, samples


@dataclass(frozen=True)
class Nearest:
    """Distance of forgotten images to the nearest generated one, a mean over D_f.

        mean_x min_y √(1/p Σ_i (x_i − y_i)²),  x from D_f, y generated, p pixels in [-1, 1]

    A generator that repeats what it was trained on comes near; how near a generator comes that
    never saw D_f, the retrained one tells.

    Args:
        samples: How many images are generated.
        most: Of D_f, at most so many images are drawn.

    Raises:
        ValueError: If there are none; when called, if the images are ruined.
    """

    samples: int = 2000
    most: int = 500

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {
        "nearest": Score("Nearest", "", "retrain", "forgotten images' distance to generated ones")
    }

    def __post_init__(self) -> None:
        check_counts(self, samples=1, most=1)

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Measure the distances, pixel by pixel."""
        made = samples(trial.unlearned, trial, run, self.samples).images
        forgotten = images_of(some(trial.split.forget, self.most, 0))
        return {"nearest": float(distances(forgotten, made).mean())}


def distances(x: Images, y: Float[Tensor, "m c h w"]) -> Float64[Tensor, " n"]:
    """Of each x, the root mean square difference to the nearest y, in float64.

    Returns:
        One per x.

    Example:
        >>> y = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
        >>> distances(torch.full((1, 1, 4, 4), 0.75), y).tolist()
        [0.25]
    """
    p = math.prod(x.shape[1:])
    return torch.cdist(x.flatten(1).double(), y.flatten(1).double()).amin(1) / math.sqrt(p)
