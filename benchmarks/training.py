"""`fit` against a bare PyTorch loop on the same tensors."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.timing import Row, ratio
from oblivio import Arrays, Recipe, Run, fit
from oblivio.models.cnn import CNN
from oblivio.models.mlp import MLP


def bare(model: nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe) -> None:
    """What one would write without a library."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    model.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def measured(build: MLP | CNN, shape: tuple[int, ...], n: int, batch: int, epochs: int) -> float:
    """How many times as long `fit` takes as the bare loop."""
    x, y = torch.randn(n, *shape), torch.randint(10, (n,))
    recipe = Recipe(epochs=epochs, lr=0.01, batch_size=batch)
    run, data = Run.on("cpu"), Arrays(x, y)
    ours, theirs = build(shape, 10), build(shape, 10)
    return ratio(lambda: fit(ours, data, recipe, run), lambda: bare(theirs, x, y, recipe))


def rows() -> list[Row]:
    cases = {
        "MLP, 1,437 digits of 8×8, batch 64": (MLP((128, 128)), (1, 8, 8), 1437, 64, 20),
        "CNN, 4,096 images of 28×28, batch 128": (CNN((16, 32)), (1, 28, 28), 4096, 128, 2),
        "CNN, 2,048 images of 3×32×32, batch 128": (CNN((32, 64)), (3, 32, 32), 2048, 128, 1),
    }
    found: list[Row] = []
    for name, case in cases.items():
        value = measured(*case)
        what = f"time of fit ÷ bare loop: {name}"
        found.append({"what": what, "value": f"{value:.2f}×", "aim": "≤ 1.10×", "ok": value <= 1.1})
    return found
