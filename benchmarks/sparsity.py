"""What sparsity costs: a training step with a mask against one without, and SynFlow's rounds.

The two trainings take the same number of steps by the same recipe, in turns. Their ratio is the
median over many short turns, so that it is the mask's and not a neighbour's on the machine.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from benchmarks.timing import Row, ratio, seconds
from oblivio import Arrays, Recipe, Run, fit
from oblivio.models.cnn import CNN
from oblivio.models.mlp import MLP
from oblivio.models.resnet18 import ResNet18
from oblivio.prune import LayerCollapse
from oblivio.prune.random import Random
from oblivio.prune.synflow import SynFlow

THREADS = 2
"""Of SynFlow."""


def masked(build: MLP | CNN, shape: tuple[int, ...], n: int, batch: int, epochs: int) -> float:
    """How many times as long `fit` takes with a mask at 95 %."""
    torch.manual_seed(0)
    data = Arrays(torch.randn(n, *shape), torch.randint(10, (n,)))
    dense, sparse, run = build(shape, 10), build(shape, 10), Run.on("cpu")
    held = replace(run, mask=Random(0.95)(sparse, data, run))
    recipe = Recipe(epochs=epochs, lr=0.01, batch_size=batch)
    return ratio(
        lambda: fit(sparse, data, recipe, held), lambda: fit(dense, data, recipe, run), turns=25
    )


def synflow() -> float:
    """Seconds of SynFlow at 95 % on ResNet-18 with the stem for small images."""
    torch.manual_seed(0)
    model = ResNet18()((3, 32, 32), 10)
    data, run = Arrays(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64)), Run.on("cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LayerCollapse)  # three shortcuts go
            return seconds(lambda: SynFlow(0.95, rounds=100)(model, data, run))
    finally:
        torch.set_num_threads(before)


def rows() -> list[Row]:
    cases = {
        "MLP, 1,437 digits of 8×8, batch 64": (MLP((128, 128)), (1, 8, 8), 1437, 64, 10),
        "CNN, 1,024 images of 28×28, batch 128": (CNN((16, 32)), (1, 28, 28), 1024, 128, 1),
    }
    found: list[Row] = []
    for name, case in cases.items():
        value = masked(*case)
        what = f"time of fit with a mask ÷ without: {name}"
        found.append(
            {"what": what, "value": f"{value:.2f}×", "aim": "≤ 1.05×", "ok": value <= 1.05}
        )
    took = synflow()
    found.append(
        {
            "what": f"SynFlow, 100 rounds on ResNet-18, {THREADS} threads",
            "value": f"{took:.1f} s",
            "aim": "≤ 20 s",
            "ok": took <= 20,
        }
    )
    return found
