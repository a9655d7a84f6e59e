"""What is left of an experiment is done: originals, cells, evidence; several at once."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

from oblivio.adversarial import Adversarial
from oblivio.bench import evidence
from oblivio.bench.cell import complete, learn, prepare, run_cell, source_of, split_of, starts_dense
from oblivio.bench.claim import shared
from oblivio.bench.event import Listener
from oblivio.bench.kind import check_made
from oblivio.bench.process import AtOnce, processes
from oblivio.bench.spec import Cell, Experiment, Table, as_toml
from oblivio.bench.store import Record, Store
from oblivio.catalogue import choose, unknown
from oblivio.core import check_fit
from oblivio.data.source import Source
from oblivio.files import write_whole
from oblivio.mask import prunable
from oblivio.models import load_weights
from oblivio.train import Recipe

ENGINES = ("local", "ray")
"""Where calls are made: in processes of this machine, or on the machines of a Ray cluster."""


@dataclass(frozen=True)
class Plan:
    """What is done already, and what is left to do.

    Args:
        done: Cells with a record.
        left: Cells without one.
        cases: What is to be repeated with shadow models yet.
    """

    done: list[Cell]
    left: list[Cell]
    cases: list[evidence.Case]

    @property
    def total(self) -> int:
        """How many records are to be made."""
        return len(self.left) + len(self.cases)


def plan(experiment: Experiment, store: Store) -> Plan:
    """Look which cells have a record with all metrics; failed ones are tried again.

    Returns:
        The cells, in their order.
    """
    done, left = [], []
    for cell in experiment.cells():
        record = store.read_record(cell.key)
        (done if complete(record, experiment) else left).append(cell)
    return Plan(done, left, evidence.left(experiment, store.evidence))


def run(
    experiment: Experiment, store: Store, *, jobs: int, tell: Listener, engine: str = "local"
) -> list[Record]:
    """Do what is left of an experiment.

    Args:
        experiment: A resolved one.
        store: Where results are kept.
        jobs: How many cells run at once, each in a process of its own; the numbers do not depend on
            it.
        tell: Hears of everything that happens.
        engine: "local", in processes of this machine, or "ray", on the machines of a cluster.

    Returns:
        The records of all cells of the experiment.
    """
    keys = [case.key for case in evidence.cases(experiment)]
    write_whole(store.folder / "experiment.toml", as_toml(experiment, keys).encode())
    planned = plan(experiment, store)
    left = planned.left
    originals = {cell.original_key: cell for cell in left}
    dense = {cell.original_key: cell for cell in (c.dense for c in left if starts_dense(c))}
    # Processes tell of their warnings as events, and may stand in another folder.
    quiet = Store(store.folder.absolute(), store.shared and store.shared.absolute())
    with _engine(engine, jobs, tell, experiment, quiet) as at_once:
        shared(at_once, learn, dense, quiet)
        shared(at_once, learn, {k: c for k, c in originals.items() if k not in dense}, quiet)
        shared(at_once, run_cell, {cell.key: cell for cell in left}, quiet)
        casts = {case.cast_key: case for case in planned.cases}
        shared(at_once, evidence.learn, casts, quiet.evidence)
        shared(at_once, evidence.judge, {case.key: case for case in planned.cases}, quiet.evidence)
    os.listdir(quiet.folder / quiet.kind)  # a network folder may still remember what was not there
    found = (quiet.read_record(cell.key) for cell in experiment.cells())
    return [record for record in found if record is not None]


def _engine(
    name: str, jobs: int, tell: Listener, experiment: Experiment, store: Store
) -> AbstractContextManager[AtOnce]:
    """What calls at once: a context, in which processes or a connection to a cluster live."""
    check_engine(name)
    if name == "local":
        return processes(jobs, tell)
    from oblivio.bench.cluster import cluster

    stores = [store, store.evidence] if experiment.evidence.models else [store]
    folders = [store.models, *(one.folder / one.kind for one in stores)]
    return cluster(jobs, tell, experiment.engine, folders)


def check_engine(name: str) -> None:
    """See that there is such an engine.

    Raises:
        ValueError: If there is none, or it is not installed.
    """
    if name not in ENGINES:
        raise ValueError(unknown("engine", name, ENGINES))
    if name == "ray":
        import oblivio.bench.cluster  # ruff: ignore[unused-import]


def check(experiment: Experiment) -> Source:
    """Read the data, build the network and make every split once, so that mistakes show at once.

    Returns:
        The data.

    Raises:
        ValueError: If a split cannot be made, weights do not fit, there is nothing to prune, or the
            network is a GAN where a classifier is trained, or the other way round.
    """
    source = source_of(experiment)
    cells = experiment.cells()
    _, run = prepare(cells[0])
    network = run.origin.fresh()  # pyright: ignore[reportOptionalMemberAccess]
    check_made(experiment.kind, experiment.model["name"], network)
    for spec in experiment.pruners:
        prunable(network)
        _check_rewind(spec, experiment.train)
    for scenario in experiment.scenarios:
        split = split_of(next(cell for cell in cells if cell.scenario == scenario), source)
        check_fit(network, split)
        evidence.check(experiment, split)
    for cell in {cell.seed: cell for cell in cells}.values():
        if cell.weights:
            load_weights(network, cell.weights)
    return source


def _check_rewind(pruner: Table, train: Recipe | Adversarial) -> None:
    """See that the epoch that a pruner rewinds to is one of the training's."""
    rewind, epochs = choose("pruners", pruner).rewind, getattr(train, "epochs", 0)
    if rewind > epochs:
        raise ValueError(
            f"pruners {pruner['name']}: rewind = {rewind}, but the training has only {epochs} "
            f"epochs."
        )
