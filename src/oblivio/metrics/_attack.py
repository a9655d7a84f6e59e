"""The attack of `membership`: scikit-learn's support vector classifier, some 500 times as fast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from torch import Tensor

Array = NDArray[np.float64]

# Up to so many points of a class only equal ones are merged. Beyond, the values of one feature are
# merged into so many runs: on 12 pairs of distributions, 10,000 values each, this moves the answer
# by at most 0.03 points; 1,000 runs move it by 0.07, and 250 by 0.25.
RUNS = 4000
# Beyond, rows of several features are merged that agree on this grid: by at most 0.02 points.
GRID = 1e-3
# Largest error of the kernel's feature map: one feature, several features. The second is measured
# too: on 10 and 100 classes it moves the answer by at most 0.05 points from that at 1e-6.
EXACT, CLOSE = 1e-10, 1e-5
# A decision value this near to 0 is a tie, and a tie goes to the members, as in LIBSVM.
TIE = 1e-7
# Most steps of the interior-point method; 35 is the largest number seen.
STEPS = 200


def attack_rate(
    members: Float[Tensor, "m ..."],
    nonmembers: Float[Tensor, "n ..."],
    targets: Float[Tensor, "t ..."],
    *,
    penalty: float = 3.0,
) -> float:
    """The share of targets that a support vector classifier calls non-members, in percent.

    The classifier, with y = +1 for members and −1 for non-members, calls x a non-member if
    f(x) < 0, where f(x) = ⟨w, φ(x)⟩ + b and

        w, b = argmin ½‖w‖² + C Σ_i max(0, 1 − y_i f(x_i)),   ⟨φ(x), φ(x')⟩ = exp(−‖x − x'‖² / k)

    for k features: scikit-learn's `SVC(C=3, gamma="auto")`, on features as they are. The same
    answer is found in another way, in three steps. (1) Near-equal points of a class merge into
    their mean, with their number as weight; equal points of one feature merge exactly. (2) The
    kernel is so smooth on probabilities that few coordinates φ hold it: 9 for one probability,
    to 1e-10, some 100 for vectors of 10 classes, to 1e-5. (3) In these coordinates an
    interior-point method needs some 10 to 25 steps. Scikit-learn's answer depends on the order of
    the points, by up to 0.08 points as measured, since it stops at a tolerance of 1e-3. Ours cannot
    tell rows of several features apart that are less than some 0.003 √k from each other.

    Args:
        members: Features of data that were trained on; one number or one row per example.
        nonmembers: Features of data that were not.
        targets: Features of what is to be judged.
        penalty: C.

    Returns:
        From 0 to 100.

    Raises:
        ValueError: If one of the three is empty or not finite, or their shapes do not fit.

    Example:
        >>> import torch
        >>> sure, unsure = torch.full((50,), 0.99), torch.full((50,), 0.6)
        >>> attack_rate(sure, unsure, torch.tensor([0.98, 0.95, 0.5, 1.0]))
        25.0

    Source: Cortes & Vapnik 1995 for the classifier. LIBSVM's conventions (Chang & Lin 2011) decide
    what the formula leaves open: of several b the middle one, and ties are members.
    """
    return attack(members, nonmembers, penalty=penalty)(targets)


def attack(
    members: Float[Tensor, "m ..."], nonmembers: Float[Tensor, "n ..."], *, penalty: float = 3.0
) -> Callable[[Tensor], float]:
    """Fit the classifier of `attack_rate` once, to judge several sets of targets.

    Returns:
        A function of targets that gives the share called non-members, in percent.

    Raises:
        ValueError: As for `attack_rate`; for the targets when the function is called.
    """
    x = [_checked("members", members), _checked("nonmembers", nonmembers)]
    _same_features(*x)
    (m, m_count), (n, n_count) = _merge(x[0]), _merge(x[1])
    points, counts = np.concatenate([m, n]), np.concatenate([m_count, n_count])
    # The kernel knows differences only, and small numbers round less.
    centre = points.mean(0)
    points = points - centre
    y = np.repeat([1.0, -1.0], [len(m), len(n)])

    pivots, phi = _coordinates(points, EXACT if points.shape[1] == 1 else CLOSE)
    w = _hyperplane(phi, y, penalty * counts)
    b = _offset(phi @ w, y, counts)
    # ⟨w, φ(x)⟩ as a sum of kernels at the pivots, whose own coordinates are triangular.
    weights = solve_triangular(phi[pivots], w, lower=True, trans=1)

    def rate(targets: Tensor) -> float:
        judged = _checked("targets", targets)
        _same_features(*x, judged)
        f = _kernel(judged - centre, points[pivots]) @ weights + b
        return 100 * int((f < -TIE).sum()) / len(f)

    return rate


def _same_features(*parts: Array) -> None:
    """Check that all parts have the same number of features."""
    if len({part.shape[1] for part in parts}) > 1:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ValueError(
            "Members, nonmembers and targets must have the same features; their shapes are "
            f"{shapes}."
        )


def _checked(name: str, value: Tensor) -> Array:
    """One row per example, in float64."""
    if value.ndim not in (1, 2) or value.numel() == 0:
        raise ValueError(
            f"The {name} must be one number or one row of numbers per example, and not be empty; "
            f"their shape is {tuple(value.shape)}."
        )
    rows = value.detach().cpu().double().reshape(len(value), -1).numpy()
    if not np.isfinite(rows).all():
        raise ValueError(f"The {name} hold NaN or infinity: the model's outputs are not finite.")
    return rows


def _merge(x: Array) -> tuple[Array, Array]:
    """Let means stand for near-equal rows; with means, the error is of second order in the spread.

    Up to `RUNS` rows only equal ones are merged. Beyond, rows of several features are merged that
    agree on a grid, and values of one feature in runs, by rank and place alike: unless its values
    are equal, no run holds more than 2/`RUNS` of all values, nor of their range.

    Returns:
        The means, and how many rows each stands for.
    """
    if x.shape[1] == 1:
        values, counts = np.unique(x, return_counts=True)
        starts, rows = np.arange(len(values)), (values * counts)[:, None]
        if len(values) > RUNS:
            rank, place = np.cumsum(counts) - counts, values - values[0]
            runs = np.floor(RUNS / 2 * (rank / counts.sum() + place / place[-1]))
            starts = np.flatnonzero(np.diff(runs, prepend=-1))
            counts = np.add.reduceat(counts, starts)
    else:
        cells = np.round(x / GRID) + 0.0 if len(x) > RUNS else x
        whole = cells.view(np.dtype((np.void, cells.itemsize * cells.shape[1]))).ravel()
        _, where, counts = np.unique(whole, return_inverse=True, return_counts=True)
        starts, rows = np.cumsum(counts) - counts, x[np.argsort(where, kind="stable")]
    return np.add.reduceat(rows, starts) / counts[:, None], counts.astype(np.float64)


def _kernel(x: Array, z: Array) -> Array:
    """The Gaussian kernel of all rows of x with all rows of z; its width is √(k/2)."""
    squares = (x * x).sum(1)[:, None] + (z * z).sum(1) - 2 * x @ z.T
    return np.exp(np.maximum(squares, 0) / -x.shape[1])


def _coordinates(x: Array, tolerance: float) -> tuple[NDArray[np.int64], Array]:
    """Find φ with ⟨φ_i, φ_j⟩ = kernel(x_i, x_j) up to the tolerance.

    Cholesky's factor with complete pivoting, stopped early. No error is above the largest that is
    left on the diagonal, and this falls exponentially: the kernel is analytic.

    Returns:
        The pivots, which are rows of x, and φ, a row for each row of x; φ is triangular at pivots.

    Source: Fine & Scheinberg 2001.
    """
    squares, left = (x * x).sum(1), np.ones(len(x))
    pivots: list[int] = []
    phi = np.empty((min(16, len(x)), len(x)))
    while left.max() > tolerance:
        r, i = len(pivots), int(left.argmax())
        if r == len(phi):
            phi = np.concatenate([phi, np.empty_like(phi)])
        # A column of the kernel; the squared norms are the same in all columns.
        column = np.exp(np.minimum(2 * (x @ x[i]) - squares - squares[i], 0) / x.shape[1])
        phi[r] = (column - phi[:r, i] @ phi[:r]) / np.sqrt(left[i])
        phi[r, pivots] = 0  # what stands here is rounding
        left = np.maximum(left - phi[r] ** 2, 0)
        pivots.append(i)
        left[pivots] = 0
    return np.array(pivots), np.ascontiguousarray(phi[: len(pivots)].T)


def _hyperplane(phi: Array, y: Array, u: Array) -> Array:
    """Find the w of argmin ½‖w‖² + Σ_i u_i max(0, 1 − y_i(⟨w, φ_i⟩ + b)).

    A primal-dual interior-point method with predictor and corrector. With v = (w, b), R = diag(1,
    …, 1, 0), rows a_i = y_i (φ_i, 1), multipliers 0 ≤ α ≤ u of the examples, and s and t of these
    two bounds, the optimum solves

        R v = Aᵀα,   A v − s + t = 1,   α s = 0,   (u − α) t = 0.

    Newton's steps need only D = s/α + t/(u − α) and the small matrix R + Aᵀ D⁻¹ A.

    Returns:
        w; for b, see `_offset`.

    Raises:
        FloatingPointError: If `STEPS` steps do not suffice.

    Source: Mehrotra 1992; Ferris & Munson 2002, for classifiers with few coordinates.
    """
    a = np.column_stack([phi, np.ones(len(y))]) * y[:, None]
    r = np.append(np.ones(phi.shape[1]), 0.0)
    v, z = np.zeros(len(r)), np.stack([u / 2, u / 2, np.ones_like(u), np.ones_like(u)])
    for _ in range(STEPS):
        alpha, beta, s, t = z  # β = u − α
        primal, dual = a.T @ alpha - r * v, 1 + s - t - a @ v
        gap = alpha @ s + beta @ t
        if max(gap, abs(primal).max()) < 1e-9 * u.sum() and abs(dual).max() < 1e-8:
            return v[:-1]
        d = s / alpha + t / beta
        scaled = a / np.sqrt(d)[:, None]
        factor = cho_factor(scaled.T @ scaled + np.diag(r))
        c_s, c_t = -alpha * s, -beta * t
        for corrects in (False, True):
            rest = dual + c_s / alpha - c_t / beta
            dv = cho_solve(factor, primal + a.T @ (rest / d))
            da = (rest - a @ dv) / d
            dz = np.stack([da, -da, (c_s - s * da) / alpha, (c_t + t * da) / beta])
            length = 0.995 / max(0.995, (-dz / z).max())
            if not corrects:
                alpha_, beta_, s_, t_ = z + length * dz
                mean = ((alpha_ @ s_ + beta_ @ t_) / gap) ** 3 * gap / (2 * len(y))
                # At full weight, the correction of a short step can make the method go in circles.
                c_s += mean - length * da * dz[2]
                c_t += mean + length * da * dz[3]
        v, z = v + length * dv, z + length * dz
    raise FloatingPointError(f"The attack was not fitted within {STEPS} interior-point steps.")


def _offset(values: Array, y: Array, counts: Array) -> float:
    """Find the b of argmin Σ_i n_i max(0, 1 − y_i(values_i + b)).

    The sum is convex and piecewise linear in b. Its slope starts at minus the number of members and
    grows by n_i at y_i − values_i.

    Returns:
        b; where several are best, the middle one.
    """
    kinks = y - values
    order = np.argsort(kinks, kind="stable")
    slopes = np.cumsum(counts[order]) - counts[y > 0].sum()
    first, last = np.searchsorted(slopes, 0), np.searchsorted(slopes, 0, side="right")
    return float(kinks[order[first]] + kinks[order[last]]) / 2
