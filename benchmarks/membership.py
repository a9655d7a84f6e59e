"""The membership attack on 20,000 points: how much faster than scikit-learn's SVC, and how far off.

Both run on one thread, one after the other, on the same points: 10,000 confidences of members,
10,000 of non-members, and 6,000 to be judged, like those of an accurate network, piled up at 1. The
plain classifier is timed once, ours is the median of seven, after one run to warm up.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from sklearn.svm import SVC
from torch import Tensor, nn

from oblivio.core import Outputs, Run, Split, Trial
from oblivio.data.arrays import Arrays
from oblivio.metrics._attack import attack_rate
from oblivio.metrics.membership import Membership


def rows() -> list[dict[str, str | bool]]:
    """What was measured, beside what is aimed at."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_against_plain(), _whole_metric()]
    finally:
        torch.set_num_threads(threads)


def _against_plain() -> list[dict[str, str | bool]]:
    members, nonmembers, targets = _confidences(seed=0)

    start = time.perf_counter()
    plain = SVC(C=3, kernel="rbf", gamma="auto")
    plain.fit(torch.cat([members, nonmembers])[:, None].numpy(), np.repeat([1, 0], 10_000))
    plain_rate = 100 * float((plain.predict(targets[:, None].numpy()) == 0).mean())
    plain_seconds = time.perf_counter() - start

    rate = attack_rate(members, nonmembers, targets)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        attack_rate(members, nonmembers, targets)
        seconds.append(time.perf_counter() - start)
    own_seconds = statistics.median(seconds)

    ratio, off = plain_seconds / own_seconds, abs(rate - plain_rate)
    return [
        {
            "what": f"membership attack, 20,000 points: faster than scikit-learn's SVC "
            f"({plain_seconds:.1f} s against {1000 * own_seconds:.0f} ms)",
            "value": f"{ratio:.0f}×",
            "aim": "≥ 100×",
            "ok": ratio >= 100,
        },
        {
            "what": f"membership attack, 20,000 points: off scikit-learn's {plain_rate:.2f} %",
            "value": f"{off:.3f} points",
            "aim": "≤ 0.05 points",
            "ok": off <= 0.05,
        },
    ]


def _whole_metric() -> dict[str, str | bool]:
    sizes = {"forget": 6000, "retain": 54_000, "test": 10_000}
    margins = {"forget": (7.0, 2.5), "retain": (9.0, 1.5), "test": (7.0, 2.5)}
    parts, start = [], 0
    for seed, (name, n) in enumerate(sizes.items()):
        logits, labels = _logits(n, *margins[name], seed)
        parts.append(Arrays(logits, labels, torch.arange(start, start + n)))
        start += n
    trial = Trial(nn.Identity(), nn.Identity(), Split(parts[0], parts[1]), parts[2])
    run = Run.on("cpu")

    begun = time.perf_counter()
    Membership()(trial, run)
    seconds = time.perf_counter() - begun
    return {
        "what": "all five membership attacks, 10,000 test and 54,000 retained examples, 10 classes",
        "value": f"{seconds:.2f} s",
        "aim": "≤ 2 s",
        "ok": seconds <= 2,
    }


def _confidences(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Members, non-members of which 7 % are misjudged, and targets of which 5 % are."""
    random = np.random.default_rng(seed)

    def draw(n: int, wrong: float, mean: float, deviation: float) -> Tensor:
        x = random.normal(mean, deviation, n)
        x[random.random(n) < wrong] -= mean + 2
        return torch.from_numpy(x).sigmoid()

    return draw(10_000, 0, 9, 2), draw(10_000, 0.07, 7, 3), draw(6000, 0.05, 7, 3)


def _logits(n: int, margin: float, noise: float, seed: int) -> Outputs:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    logits = noise * torch.randn(n, 10, generator=draw)
    logits[torch.arange(n), labels] += margin
    return Outputs(logits, labels)


if __name__ == "__main__":
    for row in rows():
        print(f"{row['what']}: {row['value']} (aim {row['aim']}) {'✓' if row['ok'] else '✗'}")
