"""Two processes that train together give the weights that one process gives."""

from __future__ import annotations

import torch
from torch.multiprocessing.spawn import ProcessExitedException

import worlds
from oblivio.core import Run


def together(plans: list[worlds.Plan]) -> list[list[list[float]]]:
    """Train in two processes. The back end's threads may, rarely, abort a process that ends: a
    second start is allowed for that, and for nothing else.
    """
    for _ in range(2):
        run = Run.on("cpu", devices=2, strategy="ddp_spawn")
        try:
            return run.fabric.launch(worlds.fit_in_process, plans)
        except ProcessExitedException as end:
            aborted = end
    raise aborted


def test_two_processes_train_as_one() -> None:
    """26 examples in batches of 4, in parts of 2 and 2 and at last 1 and 1; 15 in batches of 5, in
    parts of 3 and 2; batches of one, of which the second process has no example.
    """
    plans = [(26, 4, 3), (15, 5, 2), (5, 1, 2)]
    found = together(plans)
    for plan, rows in zip(plans, found, strict=True):
        one, two = torch.tensor(rows, dtype=torch.float64)
        alone = worlds.weights(worlds.fit_small(Run.on("cpu", seed=4), *plan))
        assert torch.equal(one, two), plan
        torch.testing.assert_close(one, alone, rtol=1e-10, atol=1e-12)
        assert float((alone - worlds.weights(worlds.fit_small(Run.on("cpu"), *plan))).norm()) > 1e-3
