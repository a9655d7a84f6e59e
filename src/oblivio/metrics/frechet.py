"""How far the distribution of generated images is from that of the retained ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from oblivio.catalogue import imported
from oblivio.core import Run, Score, Trial
from oblivio.generative import Images, images_of
from oblivio.judge import frechet_distance
from oblivio.metrics._features import some
from oblivio.metrics._samples import Features, check_counts, reporter, samples


@dataclass(frozen=True)
class Frechet:
    """Fréchet distance of generated to retained images, in the reporting judge's features.

        ‖μ_r − μ_g‖² + tr(C_r + C_g − 2 (C_r C_g)^½)

    with means and covariances of features: _r of images from D_r, _g of generated images that the
    judge calls a retained class, so that it is the quality on retained classes alone. It is the
    squared 2-Wasserstein distance of two normal distributions. The floor is the same between D_r
    and test images of retained classes: what real images have. Both fall as images become more, so
    compare only what was taken of as many.

    These are features of a judge that was trained on this very data, or of the user's own network,
    and so is the number; it is not comparable with any other network's. Without numbers where
    fewer than two images are left.

    Args:
        samples: How many images are generated.
        real: At most so many are taken of D_r, and of the test images.
        features: `package.module:attribute`, a module or function of the user's own that maps
            images (n, c, h, w) in [-1, 1] to features (n, d); None is the judge's.

    Raises:
        TypeError: When called, if the user's own does not give features.
        ValueError: If there are fewer than two images; when called, if the user's own cannot be
            imported, or the images are ruined.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6; there
    the features are of an Inception network.
    """

    samples: int = 2000
    real: int = 10000
    features: str | None = None

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {
        "frechet": Score("Fréchet", "", "down", "distance of generated images to retained ones"),
        "frechet_floor": Score(
            "Fréchet floor", "", "down", "distance of unseen real images to retained ones"
        ),
    }

    def __post_init__(self) -> None:
        check_counts(self, samples=2, real=2)

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Compare the three sets of images.

        Returns:
            The numbers that there are.
        """
        made = samples(trial.unlearned, trial, run, self.samples).without(trial.split.gone)
        h = reporter(trial, run).features if self.features is None else own(self.features, run)
        retained = h(images_of(some(trial.split.retain, self.real, 0)))
        generated = made.features if self.features is None else h(made.images)
        found = {"frechet": generated}
        if len(trial.unseen) > 1:
            found["frechet_floor"] = h(images_of(some(trial.unseen, self.real, 0)))
        enough = len(retained) > 1
        return {k: frechet_distance(retained, g) for k, g in found.items() if enough and len(g) > 1}


def own(name: str, run: Run) -> Callable[[Images], Features]:
    """The user's own features, taken some images at a time.

    Args:
        name: `package.module:attribute`.
        run: Where a module is to compute.

    Returns:
        A function of images that gives their features on the CPU.

    Raises:
        ValueError: If it cannot be imported.
    """
    given = imported(name)
    if isinstance(given, nn.Module):
        given = copy.deepcopy(given).to(run.device).eval()

    @torch.no_grad()
    def h(images: Images) -> Features:
        rows = [given(some_images.to(run.device)) for some_images in images.split(256)]
        if not all(isinstance(row, Tensor) and row.ndim == 2 for row in rows):
            raise TypeError(f"{name} must map images (n, c, h, w) to a tensor of features (n, d).")
        return torch.cat(rows).float().cpu()

    return h
