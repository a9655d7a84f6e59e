"""The few words that everything else is said in.

`Data` is labelled examples with stable ids, `Split` parts them into what is to be forgotten and
what is kept, `Run` says where and with which seed, `unlearn` is the only door through which a
method runs, and `Trial` is what a metric sees afterwards. Four protocols name families that a user
chooses from: a thing of each is a frozen dataclass whose fields are its settings and whose call is
the algorithm.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    cast,
    runtime_checkable,
)

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from oblivio.mask import Mask

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from typing_extensions import Self

Part = Literal["forget", "retain"]


# --- Data ---------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Some examples, and the share of the global batch's mean that they stand for.

    `share` is 1 in a single process. With several processes that average their gradients, the
    processes' batches differ in size by one, and `share` makes the average exact.
    """

    inputs: Tensor
    labels: Int64[Tensor, " b"]
    share: float


@runtime_checkable
class Data(Protocol):
    """Labelled examples with stable ids; `oblivio.as_data` makes one of tensors or of a Dataset."""

    @property
    def ids(self) -> Int64[Tensor, " n"]:
        """The examples' ids: they stay with the examples through every `take`."""
        ...

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The examples' classes, on the CPU."""
        ...

    def __len__(self) -> int: ...

    def take(self, positions: Int64[Tensor, " k"]) -> Self:
        """The examples at these positions (not ids), in this order."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same data on a device, where the data can live on one."""
        ...

    def batches(
        self,
        size: int,
        *,
        shuffle: int | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Go once through the data.

        Args:
            size: Examples in a batch, over all processes together.
            shuffle: The seed of this pass: its order and its augmentation. None keeps the order.
            augment: Whether to augment the inputs, which needs `shuffle`.
            part: This process's number and how many there are.
        """
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """Two disjoint parts of the training data: `forget` (D_f) and `retain` (D_r).

    Args:
        forget: What is to be forgotten.
        retain: What is kept.
        notes: What a scenario has to say of its choice, for the report.

    Raises:
        ValueError: If one part is empty, an id stands twice, or an id stands in both parts.
    """

    forget: Data
    retain: Data
    notes: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, data in (("forget", self.forget), ("retain", self.retain)):
            if len(data) == 0:
                what = "nothing to forget" if name == "forget" else "nothing would be retained"
                raise ValueError(f"The {name} set is empty: {what}.")
            repeated = _repeated(data.ids)
            if repeated:
                raise ValueError(f"Ids stand twice in the {name} set: {_some(repeated)}.")
        both = np.intersect1d(self.forget.ids.numpy(), self.retain.ids.numpy())
        if len(both):
            raise ValueError(f"Ids stand in both sets, forget and retain: {_some(both.tolist())}.")

    @classmethod
    def of(cls, train: Data, forget: Sequence[int] | Int64[Tensor, " f"]) -> Split:
        """Split off the examples with these ids.

        Returns:
            The split; each part keeps the order of the training data.

        Raises:
            ValueError: If no id is given, one is given twice, all are given, or one does not exist.
        """
        wanted = torch.as_tensor(forget, dtype=torch.int64).flatten().cpu()
        repeated = _repeated(wanted)
        if repeated:
            raise ValueError(f"Ids to forget are given twice: {_some(repeated)}.")
        unknown = wanted[~torch.isin(wanted, train.ids)].tolist()
        if unknown:
            raise ValueError(
                f"The training data has no examples with these ids: {_some(unknown)}. "
                f"It has {len(train)} examples, ids {int(train.ids.min())} to "
                f"{int(train.ids.max())}."
            )
        chosen = torch.isin(train.ids, wanted)
        if bool(chosen.all()):
            raise ValueError(f"The forget set is all of the training data ({len(train)} examples).")
        return cls(train.take(torch.where(chosen)[0]), train.take(torch.where(~chosen)[0]))

    @cached_property
    def digest(self) -> str:
        """A fingerprint of which ids are forgotten and which are retained; order plays no part."""
        parts = (np.sort(data.ids.numpy()).tobytes() for data in (self.forget, self.retain))
        return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]

    @property
    def gone(self) -> Int64[Tensor, " c"]:
        """The classes of which nothing is retained: those that are forgotten as a whole."""
        forgotten = self.forget.labels.unique()
        return forgotten[~torch.isin(forgotten, self.retain.labels)]

    def to(self, device: torch.device) -> Split:
        """The same split with its data on a device."""
        return replace(self, forget=self.forget.to(device), retain=self.retain.to(device))


def _repeated(ids: Tensor) -> list[int]:
    values, counts = ids.unique(return_counts=True)
    return values[counts > 1].tolist()


def _some(ids: Sequence[int], most: int = 5) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(map(str, ids[:most])) + more


# --- Run ----------------------------------------------------------------------------------------


def derive(seed: int, *axes: object) -> int:
    """A seed that depends on exactly these axes, and on nothing else.

    Returns:
        A number in [0, 2⁶³).

    Example:
        >>> derive(0, "split", "random") == derive(0, "split", "random")
        True
        >>> derive(0, "split", "random") == derive(1, "split", "random")
        False
    """
    text = repr((seed, *axes)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


class Progress(NamedTuple):
    """How far a training has come: `done` of `total` passes over the data, and its last loss."""

    done: int
    total: int
    loss: float


class Note(NamedTuple):
    """Something that a method has to say of its result, such as why it stopped."""

    name: str
    value: object


def _silence(_: Progress | Note) -> None:
    """Hear an event and do nothing."""


@contextmanager
def _hushed(name: str) -> Generator[None]:
    """A logger keeps meanwhile to itself what is no warning, such as the precision it was told."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class Run:
    """Where and how a computation runs: the Fabric, the seed, and who listens.

    Args:
        fabric: Device, precision and distribution. `Run.on` makes one from words.
        seed: What every random choice of the run derives from.
        origin: How the original model came to be. What trains anew (retraining, pruning) needs it.
        mask: Which weights of a pruned model may differ from zero; `fit` holds it through every
            step, and a method that changes weights without `fit` must leave the others zero.
        beside: The file of the model's weights, beside which is kept what is computed once for
            them, such as their Fisher diagonal; None keeps nothing.
        held_out: Examples that no model was trained on and that a method may look at, such as the
            validation part; never the test data.
        resume: The file in which the training of a GAN keeps its state, so that it can go on; what
            stands there and is no such state is left alone.
        channels_last: Whether `fit` stores images with the channels last; None does where it pays
            (two-dimensional convolutions).
        compile: Whether `fit` compiles the model first: pays for long trainings only.
        tell: Hears of progress and of notes while they happen.
    """

    fabric: Fabric
    seed: int = 0
    origin: Origin | None = None
    mask: Mask | None = None
    beside: Path | None = None
    held_out: Data | None = None
    resume: Path | str | None = None
    channels_last: bool | None = None
    compile: bool = False
    tell: Callable[[Progress | Note], None] = field(default=_silence, repr=False, compare=False)

    @classmethod
    def on(
        cls,
        device: str = "auto",
        *,
        seed: int = 0,
        precision: str = "auto",
        devices: int = 1,
        strategy: str = "auto",
        **options: Any,
    ) -> Run:
        """A run on "cpu", on "cuda", or on whichever there is ("auto").

        Args:
            device: "auto", "cpu", "cuda" or "mps".
            seed: What every random choice derives from.
            precision: One of Fabric's, such as "32-true" or "bf16-mixed"; "auto" is bf16-mixed on
                CUDA and 32-true elsewhere.
            devices: How many processes or GPUs train one model together.
            strategy: Fabric's strategy, such as "ddp" or "ddp_spawn".
            options: The remaining fields of `Run`.

        Returns:
            The run.

        Raises:
            ValueError: If the device is not here.
        """
        from lightning_fabric import Fabric

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "The device is to be cuda, but PyTorch sees no CUDA device; try --device cpu."
            )
        if device not in ("cpu", "cuda", "mps"):
            raise ValueError(f"There is no device {device!r}; there are auto, cpu, cuda and mps.")
        if precision == "auto":
            precision = "bf16-mixed" if device == "cuda" else "32-true"
        with _hushed("lightning_fabric.utilities.rank_zero"):
            fabric = Fabric(
                accelerator=device,
                devices=devices,
                strategy=strategy,
                precision=precision,  # pyright: ignore[reportArgumentType]
            )
        return cls(fabric, seed, **options)

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self.fabric.device

    @property
    def precision(self) -> str:
        """In which floating-point numbers Fabric computes, such as "bf16-mixed"."""
        return self.fabric._precision.precision

    def needed_origin(self, why: str) -> Origin:
        """How the original model came to be, for what cannot do without it.

        Args:
            why: Who needs it and what for: how the error's sentence begins.

        Returns:
            The origin.

        Raises:
            ValueError: If the run has none.
        """
        if self.origin is None:
            raise ValueError(
                f"{why}: give the run its origin, Run.on(origin=Origin(build, recipe, seed))."
            )
        return self.origin

    def note(self, **values: object) -> None:
        """Say something of the result, such as `run.note(stopped="after epoch 3")`."""
        for name, value in values.items():
            self.tell(Note(name, value))

    def synchronise(self) -> None:
        """Wait until the device has done all that was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Fork the random state of torch, NumPy and Python and seed it; restore it afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # ruff: ignore[numpy-legacy-random]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # ruff: ignore[numpy-legacy-random]
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # ruff: ignore[numpy-legacy-random]


@dataclass(frozen=True)
class Origin:
    """How an original model came to be: what it was built by, trained by, and from which seed.

    The original and its retrained rival are both made by `make`, so that nothing but the data can
    tell them apart.

    Args:
        build: Makes the untrained network, `() -> nn.Module`.
        train: Trains it, `(model, data, run) -> model`; a `Recipe` is one.
        seed: Of the first weights, the order of the data and the augmentation.
    """

    build: Callable[[], nn.Module]
    train: Callable[[nn.Module, Data, Run], nn.Module]
    seed: int = 0

    def fresh(self) -> nn.Module:
        """The network as it was before its first step: rebuilt, never reset layer by layer."""
        with seeded(derive(self.seed, "weights")):
            return self.build()

    def make(self, data: Data, run: Run) -> nn.Module:
        """Build the network anew and train it on this data.

        Returns:
            The trained network, in eval mode, on the run's device.
        """
        with seeded(derive(self.seed, "training")):
            model = self.fresh().to(run.device)
            seed = derive(self.seed, "order")
            own = replace(run, seed=seed, origin=self, mask=None, beside=None)
            return self.train(model, data.to(run.device), own).eval()

    def another(self) -> Origin:
        """The same from a seed of its own: what the two make differs by chance alone."""
        return replace(self, seed=derive(self.seed, "another"))


# --- The families --------------------------------------------------------------------------


@runtime_checkable
class Scenario(Protocol):
    """Chooses what is to be forgotten.

    A scenario may also have a function `poison(train, seed) -> Data`: what the original is trained
    on in the place of the training data, of which its split parts the very same examples. What the
    poison does to data, whoever it is that asks, is its `attack(data) -> Data`.
    """

    def __call__(self, train: Data, seed: int) -> Split:
        """Split the training data; the same seed gives the same split."""
        ...


@runtime_checkable
class Pruner(Protocol):
    """Chooses which weights of a model to remove.

    `sparsity` is the share of prunable weights to remove, from 0 to below 1. A `trained` pruner
    looks at a trained model, another at one before its first step. The weights that stay go back to
    what they were after `rewind` epochs of training (0 is before the first step).
    """

    trained: ClassVar[bool]

    @property
    def sparsity(self) -> float:
        """The share of prunable weights to remove."""
        ...

    @property
    def rewind(self) -> int:
        """The epoch whose weights those that stay go back to."""
        ...

    def __call__(self, model: nn.Module, data: Data, run: Run) -> Mask:
        """The weights of the model that stay; the model is left as it is."""
        ...


@runtime_checkable
class Method(Protocol):
    """Makes a model forget. It may change `model`, which is its own copy, or build another.

    `reads` names the parts of a split that it looks at. Where the run has a mask, what the mask
    removed must stay zero.

    A method may also have a function `prepare(model, data, run) -> None`: what can be done before
    anyone asks to forget, for a model and all of its training data. It leaves the model as it is
    and keeps what it finds beside the weights (`run.beside`); a request must do without it too.

    And it may say where to search its settings: `search` has, by their dotted names, a range (low,
    high) or more than two values to choose from; see `oblivio.bench.space`.
    """

    if not TYPE_CHECKING:  # a class variable for most, a property for one that wraps another
        reads: frozenset[Part]

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """The model without its memory of `split.forget`."""
        ...


class Score(NamedTuple):
    """What a number means: how it is called, its unit, and which way is better.

    `better` is "up", "down", or "retrain": as near as possible to the retrained model's value,
    which holds for most measures of forgetting. `headline` numbers make up the average gap.
    """

    label: str
    unit: str
    better: Literal["up", "down", "retrain"]
    meaning: str
    headline: bool = False


@runtime_checkable
class Metric(Protocol):
    """Looks at a trial and never touches it.

    It returns numbers, each described in `scores`, and, for the report's plots, lists of numbers.
    """

    scores: ClassVar[Mapping[str, Score]]

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, Any]:
        """The numbers, and the lists of numbers, by name."""
        ...


class NotApplicable(Exception):
    """Raised by a method that does not apply to a case, with the reason: the case is skipped."""


# --- The door -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What `unlearn` gives back: the new model, the seconds it took, and the method's notes."""

    model: nn.Module
    seconds: float
    notes: Mapping[str, object] = field(default_factory=dict)


class Unread:
    """Stands where data should not be read: any use of it says who tried."""

    def __init__(self, part: str, reader: str) -> None:
        self.__dict__["_why"] = (
            f"{reader} reads the {part} set, which it does not declare: its `reads` lacks {part!r}."
        )

    def __getattr__(self, name: str) -> Any:
        raise PermissionError(self._why)

    def __len__(self) -> int:
        raise PermissionError(self._why)


def unlearn(method: Method, model: nn.Module, split: Split, run: Run | None = None) -> Outcome:
    """Make a copy of a model forget `split.forget`; the model itself is left as it is.

    The only door to a method. It copies the model, forks the random state, hides the data that the
    method does not declare to read, warms the device up, waits for it, and takes the time.

    Args:
        method: What forgets.
        model: A trained classifier, whose output is one logit per class, or an `oblivio.GAN`.
        split: What to forget and what to retain.
        run: Where and with which seed; None is the CPU or GPU at hand, with seed 0.

    Returns:
        The unlearned model in eval mode, the method's own seconds, and its notes.

    Raises:
        TypeError: If the method is a class that was not called.
        ValueError: If the model does not suit this data.
    """
    run = run or Run.on()
    if isinstance(method, type):
        raise TypeError(f"A method is needed, {method.__name__}() with its settings, not a class.")
    name = type(method).__name__
    split = split.to(run.device)
    notes: dict[str, object] = {}

    def listen(event: Progress | Note) -> None:
        if isinstance(event, Note):
            notes[event.name] = event.value
        run.tell(event)

    with seeded(derive(run.seed, name)):
        copied = copy.deepcopy(model).to(run.device)
        check_fit(copied, split)
        view = copy.copy(split)
        for part in {"forget", "retain"} - cast(Any, method).reads:
            object.__setattr__(view, part, Unread(part, name))
        run.synchronise()
        start = time.perf_counter()
        result = method(copied, view, replace(run, tell=listen))
        run.synchronise()
        seconds = time.perf_counter() - start
    return Outcome(result.eval(), seconds, notes)


def check_fit(model: nn.Module, split: Split) -> None:
    """Pass a few examples forth and back through a copy: the model fits the data, and is warm.

    A model that is no classifier, such as a GAN, has a `check_fit(split)` of its own.

    Raises:
        ValueError: If the model does not give one row of logits per example, or knows too few
            classes.
    """
    own = getattr(model, "check_fit", None)
    if own is not None:
        own(split)
        return
    probe = copy.deepcopy(model).eval()
    batch = next(split.retain.take(torch.arange(min(len(split.retain), 8))).batches(8))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.enable_grad():
        logits = probe(batch.inputs.to(device))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch.labels):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"The model must give one row of logits per example, shape "
                f"({len(batch.labels)}, classes); it gave {got}."
            )
        most = max(int(split.forget.labels.max()), int(split.retain.labels.max()))
        if most >= logits.shape[1]:
            raise ValueError(
                f"The data has label {most}, but the model knows {logits.shape[1]} classes "
                f"(labels 0 to {logits.shape[1] - 1})."
            )
        if logits.requires_grad:
            logits.float().sum().backward()


# --- What a metric sees -------------------------------------------------------------------------


class Outputs(NamedTuple):
    """A model's logits over some data, beside the true classes; both on the CPU."""

    logits: Float[Tensor, "n classes"]
    labels: Int64[Tensor, " n"]


def convolves(model: nn.Module) -> bool:
    """Whether a model has two-dimensional convolutions, for which storing channels last pays."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def resting(model: nn.Module) -> nn.Module:
    """A copy to be asked, not trained: in eval mode, a convolutional one with channels last."""
    copied = copy.deepcopy(model).eval()
    if convolves(copied):
        copied.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return copied


@torch.no_grad()
def predict(model: nn.Module, data: Data, *, batch_size: int | None = None) -> Outputs:
    """The model's logits over all of the data: eval mode, no augmentation, in the data's order.

    Works on a copy, so that the model stays as it is; a convolutional copy stores channels last,
    which is up to four times as fast.

    Args:
        model: Any module that gives one row of logits per example.
        data: What to look at.
        batch_size: Examples at a time; None is 256 on the CPU, where it fits the caches, else 2048.

    Returns:
        Logits in float32 and labels.
    """
    copied, wide = resting(model), convolves(model)
    device = next((p.device for p in copied.parameters()), torch.device("cpu"))
    rows = []
    for batch in data.batches(batch_size or (256 if device.type == "cpu" else 2048)):
        inputs = batch.inputs.to(device)
        if wide and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        rows.append(copied(inputs).float().cpu())
    return Outputs(torch.cat(rows), data.labels.cpu())


@dataclass(frozen=True, eq=False)
class Trial:
    """One case of forgetting, as a metric sees it.

    Args:
        original: The model before.
        unlearned: The model after.
        split: What was forgotten and what was retained.
        test: Data that neither model was trained on, as a user hands it over.
        seconds: How long the method took; None if it was not timed.
        method: What forgot, for metrics that must train shadow models.
        attack: Puts a Trojan's trigger on data and calls them the target class, where the original
            was poisoned; an `oblivio.data.attack.Attack` is one.
        notes: What the method had to say, such as how many steps it took.
    """

    original: nn.Module
    unlearned: nn.Module
    split: Split
    test: Data
    seconds: float | None = None
    method: Method | None = None
    attack: Callable[[Data], Data] | None = None
    notes: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def unseen(self) -> Data:
        """The test data without the classes that are forgotten as a whole."""
        keep = ~torch.isin(self.test.labels, self.split.gone)
        return self.test if bool(keep.all()) else self.test.take(torch.where(keep)[0])

    @cached_property
    def on_forget(self) -> Outputs:
        """The unlearned model on D_f."""
        return predict(self.unlearned, self.split.forget)

    @cached_property
    def on_retain(self) -> Outputs:
        """The unlearned model on D_r."""
        return predict(self.unlearned, self.split.retain)

    @cached_property
    def on_unseen(self) -> Outputs:
        """The unlearned model on the test data, without classes that are forgotten as a whole."""
        if len(self.unseen) == 0:
            raise ValueError(
                f"All {len(self.test)} test examples belong to classes that are forgotten as a "
                "whole, so nothing is left to judge by; give test data of other classes too."
            )
        return predict(self.unlearned, self.unseen)

    @cached_property
    def on_test(self) -> Outputs:
        """The unlearned model on all of the test data, forgotten classes included."""
        return predict(self.unlearned, self.test)

    def retrained(self, run: Run, by: str = "A metric") -> nn.Module:
        """θ_r, what retraining on D_r from the original's seed gives; made once for all metrics.

        Where the method works on pruned models, it says how these come to be (its `origin`, as of
        `Pruned`), and θ_r is pruned likewise.

        Args:
            run: Whose origin says how the original came to be.
            by: Who asks, for the error.

        Returns:
            The model, for all who ask: change a copy.

        Raises:
            ValueError: If the run has no origin.
        """
        return self._reference(run, by, another=False)

    def retrained_again(self, run: Run, by: str = "A metric") -> nn.Module:
        """As `retrained`, from another seed: what is between the two is chance (`Origin.another`).

        Args:
            run: Whose origin says how the original came to be.
            by: Who asks, for the error.

        Returns:
            The model, for all who ask: change a copy.

        Raises:
            ValueError: If the run has no origin.
        """
        return self._reference(run, by, another=True)

    def _reference(self, run: Run, by: str, *, another: bool) -> nn.Module:
        own = run.needed_origin(
            f"{by} compares with a retrained model, so it must know how the original was made"
        )
        origin, made = self._references.get(another, (None, None))
        if made is None or origin is not own:
            origin = own.another() if another else own
            as_the_original = getattr(self.method, "origin", None)
            origin = origin if as_the_original is None else as_the_original(origin)
            made = origin.make(self.split.retain, run)
            self._references[another] = own, made
        return made

    @cached_property
    def _references(self) -> dict[bool, tuple[Origin, nn.Module]]:
        """The retrained models so far, and that from another seed, with the origin they are of."""
        return {}
