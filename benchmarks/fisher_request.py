"""One request to forget 100 examples, with the Fisher diagonal over all of the data kept.

The request's work is what its choice of weights costs: F_f, F_r and their ratio for the network of
105,914 weights, from the weights on, on one thread. Its cost should not grow with |D|. Medians of
the ratios of runs taken in turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.timing import Row, ratio
from oblivio import Arrays, Run, Split
from oblivio.curvature.cache import diagonals, keep
from oblivio.models.cnn import CNN

FORGET = 100
FEW, MANY = 5_000, 50_000


def request(n: int, folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """A request against n examples: with the diagonal kept, and without."""
    torch.manual_seed(0)
    model = CNN((16, 32), 64)((1, 28, 28), 10).eval()
    data = Arrays(torch.randn(n, 1, 28, 28), torch.randint(10, (n,)))
    run = Run.on("cpu", beside=folder / f"{n}.safetensors")
    keep(model, data, run)
    split = Split.of(data, torch.randperm(n)[:FORGET])

    def ask(own: Run) -> Callable[[], object]:
        def work() -> object:
            found = diagonals(model, split, own)
            return {name: f / found.retain[name] for name, f in found.forget.items()}

        return work

    return ask(run), ask(replace(run, beside=None))


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        few, without = request(FEW, Path(folder))
        many, _ = request(MANY, Path(folder))
        growth, gain = ratio(many, few, turns=15), ratio(without, few, turns=5)
    what = f"a request to forget {FORGET} examples, 105,914 weights"
    return [
        {
            "what": f"{what}: |D| = {MANY:,} against {FEW:,}",
            "value": f"{growth:.2f}×",
            "aim": "≤ 1.1×",
            "ok": growth <= 1.1,
        },
        {
            "what": f"{what}: without what is kept, |D| = {FEW:,}",
            "value": f"{gain:.0f}×",
            "aim": "≥ 5×",
            "ok": gain >= 5,
        },
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in rows():
        print(f"{row['what']}: {row['value']} (aim {row['aim']}) {'✓' if row['ok'] else '✗'}")
