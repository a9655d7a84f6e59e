"""A cell becomes a record: learn, ask to forget, forget, judge, write."""

from __future__ import annotations

import os
import platform
import queue
import signal
import subprocess
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import nn

import oblivio
from oblivio.bench.spec import Cell, Experiment, as_toml, canonical
from oblivio.bench.store import Record, Store
from oblivio.catalogue import choose
from oblivio.core import (
    Data,
    NotApplicable,
    Note,
    Origin,
    Progress,
    Run,
    Split,
    Trial,
    check_fit,
    derive,
    seeded,
    unlearn,
)
from oblivio.data.source import Source, load
from oblivio.files import write_whole
from oblivio.mask import Mask, prunable
from oblivio.models import factory, load_weights
from oblivio.prune import LayerCollapse, Pruned, sparse
from oblivio.train import Recipe, fit


@dataclass(frozen=True)
class Event:
    """Something that happened: to a cell or an original (`task`), and what."""

    task: str
    kind: str
    text: str = ""
    done: int = 0
    total: int = 0


Listener = Callable[[Event], None]


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


def complete(record: Record | None, experiment: Experiment) -> bool:
    """Whether nothing is left to do for a record: it has all metrics, or its cell is skipped."""
    if record is None or record["status"] == "failed":
        return False
    judged = record.get("judged", [])
    return record["status"] == "skipped" or all(metric in judged for metric in experiment.metrics)


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
    dense = {cell.original_key: cell for cell in (c.dense for c in left if _starts_dense(c))}
    quiet = Store(store.folder, store.shared)  # processes tell of their warnings as events
    with _processes(jobs, tell) as at_once:
        at_once(learn, [(cell, quiet) for cell in dense.values()])
        at_once(learn, [(c, quiet) for key, c in originals.items() if key not in dense])
        at_once(run_cell, [(cell, quiet) for cell in left])
    found = (quiet.read_record(cell.key) for cell in experiment.cells())
    return [record for record in found if record is not None]


def _starts_dense(cell: Cell) -> bool:
    """Whether a cell's original is the dense one, or is pruned from it."""
    return cell.pruner is None or choose("pruners", cell.pruner).trained


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


# --- One original, one cell ---------------------------------------------------------------------


@cache
def _source(spec: str) -> Source:
    """A data set, read once in each process."""
    import json

    return load(json.loads(spec))


@dataclass(frozen=True, eq=False)
class Training:
    """How an experiment trains its originals: by its recipe, keeping the best epoch."""

    recipe: Recipe
    validation: Data | None

    def __call__(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """Train the model."""
        return fit(model, data, self.recipe, run, validation=self.validation)


def _prepare(cell: Cell) -> tuple[Source, Run]:
    """The data on the device, and a run that knows how the original comes to be."""
    engine, experiment = cell.experiment.engine, cell.experiment
    torch.set_num_threads(engine.threads)
    if engine.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    source = _source(canonical(experiment.data))
    spec = {k: v for k, v in experiment.model.items() if k != "weights"}
    train = Training(experiment.train, source.validation)
    origin = Origin(factory(spec, source.shape, source.classes), train, cell.seed)
    run = Run.on(
        engine.device,
        precision=engine.precision,
        seed=cell.seed,
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
    return on_device, run


def _progress(task: str, tell: Listener) -> Callable[[Progress | Note], None]:
    """Pass a training's progress on."""

    def listen(event: Progress | Note) -> None:
        if isinstance(event, Progress):
            tell(Event(task, "progress", f"loss {event.loss:.3f}", event.done, event.total))

    return listen


def learn(cell: Cell, store: Store, tell: Listener) -> None:
    """Train the original of a cell's seed, unless it is there, and let methods prepare for it.

    Failures are left to the cells.
    """
    task = " · ".join(["original", *cell.about_original])
    noisy = replace(store, warn=lambda text: tell(Event(task, "warning", text)))
    tell(Event(task, "start"))
    try:
        source, run = _prepare(cell)
        with _collapse_told(noisy):
            run = replace(run, tell=_progress(task, tell))
            original = _original(cell, noisy, source, run)
            _beforehand(cell, noisy, original.to(run.device), source.train, run)
    except Exception as error:
        tell(Event(task, "failed", _sentence(error)))
    else:
        tell(Event(task, "done"))


def _original(cell: Cell, store: Store, source: Source, run: Run) -> nn.Module:
    """The original as it stands on disk; made first if it is not there."""
    assert run.origin is not None
    model, origin = run.origin.fresh(), run.origin
    given = cell.experiment.model.get("weights")
    if given and cell.pruner is None:
        return load_weights(model, str(given).format(seed=cell.seed)).eval()
    if store.read_model(cell.original_key, model) is None:
        store.forget_beside(cell.original_key)
        if cell.pruner is not None:
            trained = _original(cell.dense, store, source, run) if _starts_dense(cell) else None
            origin = sparse(origin, choose("pruners", cell.pruner), trained)
        made = origin.make(source.train, run)
        store.write_model(cell.original_key, made, {"cell": cell.origin})
        store.read_model(cell.original_key, model)
    return model.eval()


def _beforehand(cell: Cell, store: Store, original: nn.Module, train: Data, run: Run) -> None:
    """What methods can do before anyone asks to forget; their time does not count it."""
    mask = None if cell.pruner is None else Mask.of(original)
    run = replace(run, mask=mask, beside=store.weights(cell.original_key))
    for spec in cell.experiment.methods:
        prepare = getattr(choose("methods", spec), "prepare", None)
        if prepare is None:
            continue
        try:
            with seeded(derive(cell.seed, "prepare", canonical(spec))):
                prepare(original, train, run)
        except Exception as error:
            store.warn(f"{spec['name']} cannot prepare: {_sentence(error)}")


@contextmanager
def _collapse_told(store: Store) -> Generator[None]:
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
    tell(Event(task, "start"))
    record: Record = {"key": cell.key, "status": "done", "cell": cell.described}
    try:
        threads = cell.experiment.engine.threads  # NumPy's threads; torch's are set with the data
        state = seeded(derive(cell.seed, cell.key))
        with threadpool_limits(threads), state, _collapse_told(noisy):
            record |= _forget_and_judge(cell, noisy, _progress(task, tell))
    except NotApplicable as reason:
        record |= {"status": "skipped", "reason": str(reason)}
    except Exception as error:
        record |= {
            "status": "failed",
            "reason": _sentence(error),
            "traceback": traceback.format_exc(),
        }
    record["provenance"] = provenance(cell)
    store.write_record(record)
    tell(Event(task, record["status"], record.get("reason") or ""))


def _forget_and_judge(cell: Cell, store: Store, tell: Callable[..., None]) -> Record:
    source, run = _prepare(cell)
    run = replace(run, tell=tell)
    original = _original(cell, store, source, run)
    split = split_of(cell, source)
    unlearned = run.origin.fresh()  # pyright: ignore[reportOptionalMemberAccess]
    method = choose("methods", cell.method)
    if cell.pruner is not None:
        method = Pruned(choose("pruners", cell.pruner), method)
    about = store.read_model(cell.key, unlearned)
    if about is None:
        knowing = replace(run, beside=store.weights(cell.original_key))
        outcome = unlearn(method, original, split, knowing)
        about = {"cell": cell.described, "seconds": outcome.seconds, "notes": dict(outcome.notes)}
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
    )
    metrics: dict[str, float] = {}
    exhibits: dict[str, Any] = {}
    for spec in cell.experiment.metrics:
        for name, value in choose("metrics", spec)(trial, run).items():
            (metrics if isinstance(value, (int, float)) else exhibits)[name] = value
    if cell.experiment.keep == "originals":
        store.forget_model(cell.key)
    return {
        "metrics": metrics,
        "exhibits": exhibits,
        "judged": list(cell.experiment.metrics),
        "notes": about["notes"],
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
    return scenario(source.train, derive(cell.seed, "split", *cell.split_axes))


def check(experiment: Experiment) -> Source:
    """Read the data, build the network and make every split once, so that mistakes show at once.

    Returns:
        The data.

    Raises:
        ValueError: If a split cannot be made, weights do not fit, or there is nothing to prune.
    """
    source = _source(canonical(experiment.data))
    cells = experiment.cells()
    _, run = _prepare(cells[0])
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


# --- Where a number comes from ------------------------------------------------------------------


def provenance(cell: Cell) -> Record:
    """Software, hardware and time: what a number needs in order to be one."""
    return {
        "oblivio": oblivio.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": cell.experiment.engine.device,
        "hardware": _hardware(cell.experiment.engine.device),
        "threads": cell.experiment.engine.threads,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@cache
def _commit() -> str | None:
    """The commit of oblivio's own checkout, with "+" if files differ from it; None if installed."""
    checkout = Path(oblivio.__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        asked = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def _sentence(error: Exception) -> str:
    """An error in one line."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    named = isinstance(error, (ValueError, FileNotFoundError, PermissionError, FloatingPointError))
    return first if named and first else f"{type(error).__name__}: {first}"
