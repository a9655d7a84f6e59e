"""Two processes that train together give the weights that one process gives."""

from __future__ import annotations

import pytest
import torch
import worlds

from oblivio.core import Run


@pytest.mark.filterwarnings(
    # Fabric's launcher on machines where it would have liked more file handles or threads.
    "ignore:.*torch.distributed.*is deprecated:FutureWarning",
)
def test_two_processes_train_as_one() -> None:
    """26 examples in batches of 4 (shares of 2 and 2, then 1 and 1); 15 in 5s (3 and 2); and
    batches of one, of which the second process has no example.
    """
    for n, size, epochs in ((26, 4, 3), (15, 5, 2), (5, 1, 2)):
        run = Run.on("cpu", devices=2, strategy="ddp_spawn")
        rows = run.fabric.launch(worlds.fit_in_process, n, size, epochs)
        alone = worlds.weights(worlds.fit_small(Run.on("cpu", seed=4), n, size, epochs))
        assert rows.shape == (2, len(alone))
        assert torch.equal(rows[0], rows[1])
        torch.testing.assert_close(rows[0].cpu(), alone, rtol=1e-10, atol=1e-12)
