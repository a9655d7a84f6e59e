"""A cell becomes a record: learn, ask to forget, forget, judge, write."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from oblivio.adversarial import Adversarial
from oblivio.bench.event import Event, Listener, progress, sentence
from oblivio.bench.gan import BestOf, in_generators_range
from oblivio.bench.kind import Kind
from oblivio.bench.provenance import provenance
from oblivio.bench.spec import Cell, Experiment, canonical
from oblivio.bench.store import Record, Store
from oblivio.catalogue import choose
from oblivio.core import Data, NotApplicable, Origin, Run, Split, Trial, derive, seeded, unlearn
from oblivio.data.source import Source, load
from oblivio.mask import Mask
from oblivio.models import factory, load_weights
from oblivio.prune import LayerCollapse, Pruned, sparse
from oblivio.train import Recipe, fit


def complete(record: Record | None, experiment: Experiment) -> bool:
    """Whether nothing is left to do for a record: it has all metrics, or its cell is skipped."""
    if record is None or record["status"] == "failed":
        return False
    judged = record.get("judged", [])
    return record["status"] == "skipped" or all(metric in judged for metric in experiment.metrics)


def starts_dense(cell: Cell) -> bool:
    """Whether a cell's original is the dense one, or is pruned from it."""
    return cell.pruner is None or choose("pruners", cell.pruner).trained


def source_of(experiment: Experiment) -> Source:
    """An experiment's data set as its models take it, read once in each process."""
    return _source(canonical(experiment.data), experiment.kind)


@cache
def _source(spec: str, kind: Kind) -> Source:
    import json

    source = load(json.loads(spec))
    return in_generators_range(source) if kind == "gan" else source


@dataclass(frozen=True, eq=False)
class Training:
    """How an experiment trains its originals: by its recipe, keeping the best epoch."""

    recipe: Recipe
    validation: Data

    def __call__(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """Train the model."""
        return fit(model, data, self.recipe, run, validation=self.validation)


def training(
    recipe: Recipe | Adversarial, validation: Data | None
) -> Recipe | Training | Adversarial | BestOf:
    """What trains an experiment's originals.

    Returns:
        The recipe itself where the last weights are kept, so that many can be trained at once.
    """
    if isinstance(recipe, Adversarial):
        return BestOf(recipe) if recipe.check_every else recipe
    return recipe if validation is None else Training(recipe, validation)


def prepare(cell: Cell) -> tuple[Source, Run]:
    """The data on the device, and a run that knows how the original comes to be."""
    engine, experiment = cell.experiment.engine, cell.experiment
    torch.set_num_threads(engine.threads)
    if engine.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    source = source_of(experiment)
    spec = {k: v for k, v in experiment.model.items() if k != "weights"}
    train = training(experiment.train, source.validation)
    origin = Origin(factory(spec, source.shape, source.classes), train, cell.seed_of("training"))
    run = Run.on(
        engine.device,
        precision=engine.precision,
        seed=cell.seed_of("unlearning"),
        origin=origin,
        channels_last=engine.channels_last,
        compile=engine.compile,
    )
    on_device = replace(
        source,
        train=source.train.to(run.device),
        test=source.test.to(run.device),
        validation=None if source.validation is None else source.validation.to(run.device),
    )
    return on_device, replace(run, held_out=on_device.validation)


def learn(cell: Cell, store: Store, tell: Listener) -> None:
    """Train the original of a cell's seed, unless it is there, and let methods prepare for it.

    Failures are left to the cells.
    """
    task = " · ".join(["original", *cell.about_original])
    noisy = replace(store, warn=lambda text: tell(Event(task, "warning", text)))
    tell(Event(task, "start"))
    try:
        source, run = prepare(cell)
        with collapse_told(noisy):
            run = replace(run, tell=progress(task, tell))
            original = _original(cell, noisy, source, run)
            _beforehand(cell, noisy, original.to(run.device), trained_on(cell, source), run)
    except Exception as error:
        tell(Event(task, "failed", sentence(error)))
    else:
        tell(Event(task, "done"))


def _original(cell: Cell, store: Store, source: Source, run: Run) -> nn.Module:
    """The original as it stands on disk; made first if it is not there."""
    assert run.origin is not None
    model, origin = run.origin.fresh(), run.origin
    if cell.weights and cell.pruner is None:
        return load_weights(model, cell.weights).eval()
    if store.read_model(cell.original_key, model) is None:
        store.forget_beside(cell.original_key)
        if cell.pruner is not None:
            trained = _original(cell.dense, store, source, run) if starts_dense(cell) else None
            origin = sparse(origin, choose("pruners", cell.pruner), trained)
        resumed = replace(run, resume=store.state(cell.original_key))
        made = origin.make(trained_on(cell, source), resumed)
        store.write_model(cell.original_key, made, {"cell": cell.origin})
        store.read_model(cell.original_key, model)
    return model.eval()


def _beforehand(cell: Cell, store: Store, original: nn.Module, train: Data, run: Run) -> None:
    """What methods can do before anyone asks to forget; their time does not count it."""
    mask = None if cell.pruner is None else Mask.of(original)
    run = replace(run, mask=mask, beside=store.weights(cell.original_key))
    for spec in cell.experiment.methods:
        prepare = getattr(choose(cell.experiment.family, spec), "prepare", None)
        if prepare is None:
            continue
        try:
            with seeded(derive(cell.seed_of("training"), "prepare", canonical(spec))):
                prepare(original, train, run)
        except Exception as error:
            store.warn(f"{spec['name']} cannot prepare: {sentence(error)}")


@contextmanager
def collapse_told(store: Store) -> Generator[None]:
    """Tell of layers that pruning wipes out; other warnings take their usual way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LayerCollapse)
        yield
    for told in dict.fromkeys(str(w.message) for w in caught if w.category is LayerCollapse):
        store.warn(told)
    for other in caught:
        if other.category is not LayerCollapse:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def run_cell(cell: Cell, store: Store, tell: Listener) -> None:
    """Forget, judge, and write one record: done, failed with its traceback, or skipped."""
    task = str(cell)
    noisy = replace(store, warn=lambda text: tell(Event(task, "warning", text)))
    if complete(store.read_record(cell.key), cell.experiment):
        tell(Event(task, "done", "done by another process"))
        return
    record: Record = {"key": cell.key, "status": "done", "cell": cell.described}
    write(record, cell, task, store, tell, lambda: _forget_and_judge(cell, noisy, tell))


def write(
    record: Record,
    cell: Cell,
    task: str,
    store: Store,
    tell: Listener,
    work: Callable[[], Record],
) -> None:
    """Do what a record is about and write it: done, failed with its traceback, or skipped."""
    tell(Event(task, "start"))
    try:
        threads = cell.experiment.engine.threads  # NumPy's threads; torch's are set with the data
        noisy = replace(store, warn=lambda text: tell(Event(task, "warning", text)))
        state = seeded(derive(cell.seed, record["key"]))
        with threadpool_limits(threads), state, collapse_told(noisy):
            record |= work()
    except NotApplicable as reason:
        record |= {"status": "skipped", "reason": str(reason)}
    except Exception as error:
        record |= {
            "status": "failed",
            "reason": sentence(error),
            "traceback": traceback.format_exc(),
        }
    record["provenance"] = provenance(cell)
    store.write_record(record)
    tell(Event(task, record["status"], record.get("reason") or ""))


def _forget_and_judge(cell: Cell, store: Store, tell: Listener) -> Record:
    source, run = prepare(cell)
    run = replace(run, tell=progress(str(cell), tell))
    original = _original(cell, store, source, run)
    split = split_of(cell, source)
    unlearned = run.origin.fresh()  # pyright: ignore[reportOptionalMemberAccess]
    method = choose(cell.experiment.family, cell.method)
    if cell.pruner is not None:
        method = Pruned(choose("pruners", cell.pruner), method)
    about = store.read_model(cell.key, unlearned)
    knowing = replace(run, beside=store.weights(cell.original_key))
    if about is None:
        resumed = replace(knowing, resume=store.state(cell.key))
        outcome = unlearn(method, original, split, resumed)
        notes = dict(outcome.notes)
        # The time of training alone, all of it: a resumed one has some behind it.
        before, judging = (
            float(cast(float, notes.get(f"seconds_{part}", 0.0))) for part in ("before", "judging")
        )
        seconds = outcome.seconds + before - judging
        about = {"cell": cell.described, "seconds": seconds, "notes": notes}
        # What is judged is what was written, so that a resumed run judges the very same.
        store.write_model(cell.key, outcome.model, about)
        store.read_model(cell.key, unlearned)
    trial = Trial(
        original.to(run.device).eval(),
        unlearned.to(run.device).eval(),
        split,
        source.test,
        float(about["seconds"]),
        method,
        getattr(choose("scenarios", cell.scenario), "attack", None),
        about["notes"],
    )
    judging = knowing if cell.experiment.kind == "gan" else run  # judges are kept beside weights
    metrics: dict[str, float] = {}
    exhibits: dict[str, Any] = {}
    for spec in cell.experiment.metrics:
        for name, value in choose("metrics", spec)(trial, judging).items():
            (metrics if isinstance(value, (int, float)) else exhibits)[name] = value
    if cell.experiment.keep == "originals":
        store.forget_model(cell.key)
    return {
        "metrics": metrics,
        "exhibits": exhibits,
        "judged": list(cell.experiment.metrics),
        # The split is the same for all methods, so that its notes stand with one of them.
        "notes": (split.notes if cell.method["name"] == "original" else {}) | about["notes"],
        "split": {
            "forget": len(split.forget),
            "retain": len(split.retain),
            "digest": split.digest,
        },
        "reason": None,
    }


def split_of(cell: Cell, source: Source) -> Split:
    """What a cell forgets: from a seed that does not depend on the method."""
    scenario = choose("scenarios", cell.scenario)
    return scenario(source.train, derive(cell.seed_of("split"), "split", *cell.split_axes))


def trained_on(cell: Cell, source: Source) -> Data:
    """What a cell's original is trained on: the training data, poisoned if the scenario does so."""
    if not cell.poisons:
        return source.train
    scenario = choose("scenarios", cell.scenario)
    return scenario.poison(source.train, derive(cell.seed_of("split"), "split", *cell.split_axes))
