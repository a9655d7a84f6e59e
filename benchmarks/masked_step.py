"""What training one weight in a hundred costs, beside training all: a step of `fit` with `only`.

The two trainings take the same number of steps by the same recipe, in turns. The chosen weights are
spread over all layers, so that no gradient is spared; with a pruned model, its mask is held too.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.timing import Row, ratio
from oblivio import Arrays, Recipe, Run, fit
from oblivio.models.cnn import CNN
from oblivio.models.mlp import MLP
from oblivio.prune.random import Random

SHARE = 0.01


def chosen(
    build: MLP | CNN, shape: tuple[int, ...], n: int, epochs: int, *, pruned: bool = False
) -> float:
    """How many times as long `fit` takes with a share of the weights as with all."""
    torch.manual_seed(0)
    data = Arrays(torch.randn(n, *shape), torch.randint(10, (n,)))
    plain, masked, run = build(shape, 10), build(shape, 10), Run.on("cpu")
    only = {name: torch.rand(p.shape) < SHARE for name, p in masked.named_parameters()}
    for some in only.values():
        some.view(-1)[0] = True
    held = replace(run, mask=Random(0.95)(masked, data, run)) if pruned else run
    recipe = Recipe(epochs=epochs, lr=0.01, batch_size=64)
    return ratio(
        lambda: fit(masked, data, recipe, held, only=only),
        lambda: fit(plain, data, recipe, run),
        turns=75,
    )


def rows() -> list[Row]:
    mlp, cnn = (MLP((128, 128)), (1, 8, 8), 1437, 2), (CNN((16, 32)), (1, 28, 28), 512, 1)
    values = {
        "MLP, 1,437 digits of 8×8, batch 64": chosen(*mlp),
        "the same at 95 % sparsity": chosen(*mlp, pruned=True),
        "CNN, 512 images of 28×28, batch 64": chosen(*cnn),
    }
    return [
        {
            "what": f"time of fit with 1 % of the weights ÷ with all: {name}",
            "value": f"{value:.2f}×",
            "aim": "≤ 1.05×",
            "ok": value <= 1.05,
        }
        for name, value in values.items()
    ]
