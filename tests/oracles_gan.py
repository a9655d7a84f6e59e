"""What GANs are measured by, as it is written down: slow, in float64, one pair at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from oblivio.generative import GAN


def frechet_by_root(r: Tensor, g: Tensor) -> float:
    """‖μ_r − μ_g‖² + tr(C_r + C_g − 2 (C_r C_g)^½) with the root of the product itself."""
    r, g = r.double().numpy(), g.double().numpy()
    c_r, c_g = np.cov(r, rowvar=False), np.cov(g, rowvar=False)
    root = sqrtm(c_r @ c_g).real
    return float(np.sum((r.mean(0) - g.mean(0)) ** 2) + np.trace(c_r + c_g - 2 * root))


def covered_by_loops(x: Tensor, y: Tensor, k: int) -> tuple[float, float]:
    """Density and coverage, ball by ball."""
    x, y = x.double(), y.double()
    inside, reached = 0, 0
    for i in range(len(x)):
        others = [float((x[i] - x[j]).norm()) for j in range(len(x)) if j != i]
        radius = sorted(others)[k - 1]
        here = sum(float((x[i] - one).norm()) < radius for one in y)
        inside += here
        reached += here > 0
    return inside / (k * len(y)), reached / len(x)


def auc_by_pairs(f: list[float], h: list[float]) -> tuple[float, float]:
    """The share of pairs in the right order, equals counting half; DeLong's standard error."""
    psi = [[(a > b) + (a == b) / 2 for b in h] for a in f]
    v = [sum(row) / len(h) for row in psi]
    w = [sum(row[j] for row in psi) / len(f) for j in range(len(h))]
    value = sum(v) / len(f)
    spread = [sum((one - value) ** 2 for one in side) / (len(side) - 1) for side in (v, w)]
    return value, math.sqrt(spread[0] / len(f) + spread[1] / len(h))


def nearest_by_loops(x: Tensor, y: Tensor) -> list[float]:
    """The root mean square difference to the nearest image, pixel by pixel."""
    found = []
    for one in x.double():
        found.append(min(math.sqrt(float((one - other).square().mean())) for other in y.double()))
    return found


class _Linear(nn.Module):
    """G(z) = Q S z + b, as images 1 × 4 × 4."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)
        with torch.no_grad():
            self.layer.weight.copy_(weight)
            self.layer.bias.copy_(bias)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z).unflatten(1, (1, 4, 4))


@dataclass(frozen=True)
class LinearWorld:
    """A linear generator, whose images are normally distributed, as are the real ones.

    G(z) = Q S z + b has mean b and covariance Q S² Qᵀ. Real images have mean a and covariance
    Q T² Qᵀ with the same rotation Q, so that the Fréchet distance of their pixels is

        ‖a − b‖² + Σ_i (s_i − t_i)²
    """

    seed: int = 0

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(self.seed)
        q, _ = torch.linalg.qr(torch.randn(16, 16, generator=draw, dtype=torch.float64))
        s, t, a, b = 0.1 + 0.1 * torch.rand(4, 16, generator=draw, dtype=torch.float64)
        return q, s, 2 * t, a, -b

    @property
    def frechet(self) -> float:
        """In closed form."""
        _, s, t, a, b = self._parts()
        return float((a - b).square().sum() + (s - t).square().sum())

    def real(self, n: int) -> Tensor:
        """Images whose mean and covariance are those of the world, not only on average."""
        q, _, t, a, _ = self._parts()
        draw = torch.Generator().manual_seed(self.seed + 1)
        z = torch.randn(n, 16, generator=draw, dtype=torch.float64)
        z = z - z.mean(0)
        factor = torch.linalg.cholesky(z.T @ z / (n - 1))
        white = torch.linalg.solve_triangular(factor, z.T, upper=False).T
        return (white @ (q * t).T + a).unflatten(1, (1, 4, 4)).float()

    def gan(self) -> GAN:
        """The generator, beside a discriminator that looks at the mean."""
        q, s, _, _, b = self._parts()
        discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
        return GAN(_Linear(q * s, b), discriminator, 16).eval()


def pixels(images: Tensor) -> Tensor:
    """Features that are the images themselves."""
    return images.flatten(1)


brightness = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
"""Features of 8 × 8 images: how bright their quarters are."""


def apart(one: Tensor, two: Tensor) -> float:
    """Root mean square of the difference, number by number in float64."""
    pairs = list(zip(one.flatten().tolist(), two.flatten().tolist(), strict=True))
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs))
