"""What is left of an experiment is done: originals first, then cells, several at once."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from oblivio.bench.cell import complete, learn, prepare, run_cell, source_of, split_of, starts_dense
from oblivio.bench.event import Listener
from oblivio.bench.spec import Cell, Experiment, as_toml
from oblivio.bench.store import Record, Store
from oblivio.catalogue import choose
from oblivio.core import check_fit
from oblivio.data.source import Source
from oblivio.files import write_whole
from oblivio.mask import prunable
from oblivio.models import load_weights


@dataclass(frozen=True)
class Plan:
    """What is done already, and what is left to do."""

    done: list[Cell]
    left: list[Cell]


def plan(experiment: Experiment, store: Store) -> Plan:
    """Look which cells have a record with all metrics; failed ones are tried again.

    Returns:
        The cells, in their order.
    """
    done, left = [], []
    for cell in experiment.cells():
        record = store.read_record(cell.key)
        (done if complete(record, experiment) else left).append(cell)
    return Plan(done, left)


def run(experiment: Experiment, store: Store, *, jobs: int, tell: Listener) -> list[Record]:
    """Do what is left of an experiment.

    Args:
        experiment: A resolved one.
        store: Where results are kept.
        jobs: How many cells run at once, each in a process of its own; the numbers do not depend on
            it.
        tell: Hears of everything that happens.

    Returns:
        The records of all cells of the experiment.
    """
    write_whole(store.folder / "experiment.toml", as_toml(experiment).encode())
    left = plan(experiment, store).left
    originals = {cell.original_key: cell for cell in left}
    dense = {cell.original_key: cell for cell in (c.dense for c in left if starts_dense(c))}
    quiet = Store(store.folder, store.shared)  # processes tell of their warnings as events
    with _processes(jobs, tell) as at_once:
        at_once(learn, [(cell, quiet) for cell in dense.values()])
        at_once(learn, [(c, quiet) for key, c in originals.items() if key not in dense])
        at_once(run_cell, [(cell, quiet) for cell in left])
    found = (quiet.read_record(cell.key) for cell in experiment.cells())
    return [record for record in found if record is not None]


@contextmanager
def _processes(jobs: int, tell: Listener) -> Generator[Callable[..., None]]:
    """A way to call a function many times: here one after another, or in several processes."""
    if jobs == 1:

        def one_by_one(function: Callable[..., None], calls: Iterable[tuple[Any, ...]]) -> None:
            for call in calls:
                function(*call, tell)

        yield one_by_one
        return

    from multiprocessing import Manager

    from joblib import Parallel, delayed

    with Manager() as manager, Parallel(n_jobs=jobs) as parallel:
        with _deaf_to_interrupts():
            parallel(delayed(_start_up)() for _ in range(jobs))
        events: Any = manager.Queue()
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set() or not events.empty():
                try:
                    tell(events.get(timeout=0.1))
                except queue.Empty:
                    continue

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()

        def in_processes(function: Callable[..., None], calls: Iterable[tuple[Any, ...]]) -> None:
            parallel(delayed(function)(*call, events.put) for call in calls)

        try:
            yield in_processes
        finally:
            ended.set()
            listener.join()


@contextmanager
def _deaf_to_interrupts() -> Generator[None]:
    """Processes that start in here ignore Ctrl-C: it is for the one that a user talks to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_up() -> None:
    """Import this module in a new process, which takes its seconds."""


def check(experiment: Experiment) -> Source:
    """Read the data, build the network and make every split once, so that mistakes show at once.

    Returns:
        The data.

    Raises:
        ValueError: If a split cannot be made, weights do not fit, or there is nothing to prune.
    """
    source = source_of(experiment)
    cells = experiment.cells()
    _, run = prepare(cells[0])
    network = run.origin.fresh()  # pyright: ignore[reportOptionalMemberAccess]
    for spec in experiment.pruners:
        prunable(network)
        pruner = choose("pruners", spec)
        if pruner.rewind > experiment.train.epochs:
            raise ValueError(
                f"pruners {spec['name']}: rewind = {pruner.rewind}, but the training has only "
                f"{experiment.train.epochs} epochs."
            )
    for scenario in experiment.scenarios:
        split = split_of(next(cell for cell in cells if cell.scenario == scenario), source)
        check_fit(network, split)
    for cell in {cell.seed: cell for cell in cells}.values():
        if experiment.model.get("weights"):
            load_weights(network, str(experiment.model["weights"]).format(seed=cell.seed))
    return source
