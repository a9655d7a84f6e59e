"""The membership attack as it is written down: slow, and obvious."""

from __future__ import annotations

import math

import numpy as np
from sklearn.svm import SVC
from torch import Tensor


def plain_svc_values(
    members: Tensor, nonmembers: Tensor, targets: Tensor, *, penalty: float = 3, tol: float = 1e-3
) -> np.ndarray:
    """Decision values of scikit-learn's kernel SVC on all points as they are; members above 0."""
    m, n, t = (x.double().reshape(len(x), -1).numpy() for x in (members, nonmembers, targets))
    attack = SVC(C=penalty, kernel="rbf", gamma="auto", tol=tol)
    attack.fit(np.concatenate([m, n]), np.repeat([1, 0], [len(m), len(n)]))
    return attack.decision_function(t)


def plain_svc_rate(
    members: Tensor, nonmembers: Tensor, targets: Tensor, *, penalty: float = 3, tol: float = 1e-3
) -> float:
    """The share of targets that it calls non-members, in percent."""
    values = plain_svc_values(members, nonmembers, targets, penalty=penalty, tol=tol)
    return 100 * float((values < 0).mean())


def plain_modified_entropy(probabilities: Tensor, labels: Tensor) -> list[float]:
    """Song & Mittal's formula, one example and one class at a time."""
    entropies = []
    for p, y in zip(probabilities.tolist(), labels.tolist(), strict=True):
        total = -(1 - p[y]) * math.log(max(p[y], 1e-12))
        for c in range(len(p)):
            if c != y:
                total -= p[c] * math.log(max(1 - p[c], 1e-12))
        entropies.append(total)
    return entropies
