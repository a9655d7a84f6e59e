"""Many small models trained together, against one after another, on one thread.

What packing saves is the cost of everything but arithmetic: it cannot be faster than the matrix
products of a step. So for the MLP their time alone is measured as well, in the same run; how far
packing can go depends on how large it is beside the time of a step of `fit`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.timing import Row, seconds
from oblivio import Arrays, Recipe, Run, fit
from oblivio.fleet import fit_many
from oblivio.models.cnn import CNN
from oblivio.models.mlp import MLP

N, BATCH, SHAPE, CLASSES = 1437, 64, (1, 8, 8), 10
STEPS = -(-N // BATCH)


def products(hidden: tuple[int, ...], count: int) -> Callable[[], object]:
    """The matrix products of one step of that many MLPs, forth and back, and nothing else."""
    widths = (64, *hidden, CLASSES)
    layers: list[tuple[Tensor, Tensor, Tensor]] = [
        (torch.randn(count, N // STEPS, i), torch.randn(count, o, i), torch.randn(count, 62, o))
        for i, o in pairwise(widths)
    ]

    def multiply() -> None:
        for k, (x, weight, gradient) in enumerate(layers):
            torch.bmm(x, weight.mT)
            torch.bmm(gradient.mT, x)
            if k > 0:
                torch.bmm(gradient, weight)

    return multiply


def speeds(build: MLP | CNN, count: int, epochs: int) -> tuple[float, float]:
    """How many times as long as `fit_many` the same takes: by `fit`, and by products alone.

    The medians over five turns; `fit` trains an eighth of the models.
    """
    torch.manual_seed(0)
    data = Arrays(torch.randn(N, *SHAPE), torch.randint(CLASSES, (N,)))
    models, run = [build(SHAPE, CLASSES) for _ in range(count)], Run.on("cpu")
    runs = [replace(run, seed=seed) for seed in range(count)]
    parts = [data.take(torch.randperm(N)) for _ in range(count)]
    recipe = Recipe(epochs=epochs, lr=0.01, batch_size=BATCH)
    multiply = products(build.hidden, count) if isinstance(build, MLP) else lambda: None

    def alone() -> None:
        for k in range(count // 8):
            fit(models[k], parts[k], recipe, runs[k])

    def arithmetic() -> None:
        for _ in range(epochs * STEPS):
            multiply()

    turns = [
        (
            8 * seconds(alone),
            seconds(arithmetic),
            seconds(lambda: fit_many(models, parts, recipe, runs)),
        )
        for _ in range(6)
    ]
    slow, least = (statistics.median(t[i] / t[2] for t in turns[1:]) for i in (0, 1))
    return slow, least


def rows() -> list[Row]:
    found: list[Row] = []
    for name, build, count, epochs, aim in (
        ("32 MLPs 64-128-128-10", MLP((128, 128)), 32, 4, 15.0),
        ("64 MLPs 64-16-10", MLP((16,)), 64, 4, 8.0),
        ("16 CNNs (16, 32)", CNN((16, 32)), 16, 2, 1.8),
    ):
        ratio, least = speeds(build, count, epochs)
        what = f"models per second, fit_many ÷ fit: {name}, batch 64"
        if isinstance(build, MLP):
            what += f"; {100 * least:.0f} % of the time is matrix products"
        found.append(
            {"what": what, "value": f"{ratio:.1f}×", "aim": f"≥ {aim:g}×", "ok": ratio >= aim}
        )
    return found
