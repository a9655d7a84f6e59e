"""Two processes that work together give what one process gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException

import oracles_fisher
import worlds
from oblivio.core import Run
from oblivio.curvature.fisher import diagonal, sensitivity

Rows = list[list[list[float]]]


def together(work: Callable[..., Rows], given: list[Any]) -> Rows:
    """Work in two processes. The back end's threads may, rarely, abort a process that ends: a
    second start is allowed for that, and for nothing else.
    """
    for _ in range(2):
        run = Run.on("cpu", devices=2, strategy="ddp_spawn")
        try:
            return run.fabric.launch(work, given)
        except ProcessExitedException as end:
            aborted = end
    raise aborted


def test_two_processes_train_as_one() -> None:
    """26 examples in batches of 4, in parts of 2 and 2 and at last 1 and 1; 15 in batches of 5, in
    parts of 3 and 2; batches of one, of which the second process has no example.
    """
    plans = [(26, 4, 3), (15, 5, 2), (5, 1, 2)]
    found = together(worlds.fit_in_process, plans)
    for plan, rows in zip(plans, found, strict=True):
        one, two = torch.tensor(rows, dtype=torch.float64)
        alone = worlds.weights(worlds.fit_small(Run.on("cpu", seed=4), *plan))
        assert torch.equal(one, two), plan
        torch.testing.assert_close(one, alone, rtol=1e-10, atol=1e-12)
        assert float((alone - worlds.weights(worlds.fit_small(Run.on("cpu"), *plan))).norm()) > 1e-3


def test_two_processes_take_the_fisher_diagonal_of_one() -> None:
    """Of 9 examples one process has one more; of one example it has all."""
    sizes = [9, 1]
    for n, rows in zip(sizes, together(oracles_fisher.diagonals_in_process, sizes), strict=True):
        model, data = oracles_fisher.small(n)
        for row, kind in zip(rows, (diagonal, sensitivity), strict=True):
            alone = torch.cat([part.flatten() for part in kind(model, data).values()])
            found = torch.tensor(row, dtype=torch.float64)
            torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-15)
