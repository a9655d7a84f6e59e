"""Fisher diagonals of a request at a cost that does not grow with the training data.

Sums over examples add: n F = n_f F_f + n_r F_r, with F_S the mean over the n_S examples of S. So F
over all of D, computed once for a model and kept beside its weights, gives F_r for any request by a
pass over D_f alone:

    F_r(w) = max((n F(w) − n_f F_f(w)) / n_r, 0), in float64

The file `<weights>.fisher-<kind>.safetensors` holds F, a mean, by parameter name, and in its
metadata whose it is: the fingerprints of weights and data, n, the kind and the seed of labels. A
file that does not belong to a request is refused, and never replaced unasked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, get_args

import numpy as np
import torch
from torch import Tensor, nn

from oblivio.catalogue import unknown
from oblivio.core import Data, Run, Split
from oblivio.curvature.fisher import Diagonal, diagonal, sensitivity
from oblivio.curvature.gradients import trainable
from oblivio.files import weights_digest, write_whole

Kind = Literal["data", "model", "outputs"]
"""Fisher with labels from the data, or drawn from the model; the sensitivity of the outputs."""

KEY = "oblivio.fisher"
FORMAT = 1
SEED = 0  # of labels that are drawn: one for the whole and for the parts, else sums do not add
LOOKED_AT = 32  # examples whose inputs the fingerprint of the data holds

_DIFFERS = {
    "data": "the training data differ (D_f and D_r must together be those of the file)",
    "weights": "the weights differ",
}


class Unfit(ValueError):
    """A kept diagonal is damaged, or is not that of these weights and this data."""


class Diagonals(NamedTuple):
    """F_f, F_r, and F over all of D."""

    forget: Diagonal
    retain: Diagonal
    whole: Diagonal


class Kept(NamedTuple):
    """F over all of D, as it stands in a file, and the seconds that it once took."""

    whole: Diagonal
    seconds: float


def diagonals(model: nn.Module, split: Split, run: Run, kind: Kind = "data") -> Diagonals:
    """The diagonals over D_f, D_r and D, by one pass over D_f if that over D is kept.

    Without `run.beside`, by a pass over each part. With it, F is read; if there is no file, it is
    computed and kept for the next request. A run that reads it notes the `prepared_seconds` that it
    once took. F_r is then exact to the rounding of n F: where it is below that, it is noise or 0.

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        split: What to forget and what to retain.
        run: Says by `beside` where the model's weights stand.
        kind: Of the diagonal.

    Returns:
        Three diagonals by parameter name, in float64, on the model's device.

    Raises:
        Unfit: If there is a file which is damaged, or of another model, other data or another kind.
        ValueError: If there is no such kind, or the diagonal cannot be taken (see `diagonal`).
    """
    kept = None if run.beside is None else find(model, [split.forget, split.retain], run, kind)
    n_f, n_r = len(split.forget), len(split.retain)
    n = n_f + n_r
    start = time.perf_counter()
    forget = _measured(model, split.forget, run, kind)
    if kept is not None:
        run.note(prepared_seconds=kept.seconds)
        retain = {w: ((n * f - n_f * forget[w]) / n_r).clamp_(0) for w, f in kept.whole.items()}
        return Diagonals(forget, retain, kept.whole)
    retain = _measured(model, split.retain, run, kind)
    whole = {w: (n_f * forget[w] + n_r * retain[w]) / n for w in forget}
    if run.beside is not None:
        run.synchronise()
        kept = Kept(whole, time.perf_counter() - start)
        _write(model, [split.forget, split.retain], run, kind, kept)
    return Diagonals(forget, retain, whole)


def keep(model: nn.Module, data: Data, run: Run, kind: Kind = "data") -> Path:
    """Compute the diagonal over all of the training data and keep it beside the model's weights.

    If a fitting one is there, nothing is computed.

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        data: D.
        run: Says by `beside` where the model's weights stand.
        kind: Of the diagonal.

    Returns:
        The file.

    Raises:
        Unfit: If there is a file which is damaged, or of another model, other data or another kind.
        ValueError: If the run does not say where the weights stand, there is no such kind, or the
            diagonal cannot be taken (see `diagonal`).
    """
    if find(model, [data], run, kind) is None:
        start = time.perf_counter()
        whole = _measured(model, data, run, kind)
        run.synchronise()
        _write(model, [data], run, kind, Kept(whole, time.perf_counter() - start))
    return place(run, kind)


def place(run: Run, kind: Kind) -> Path:
    """Where the diagonal stands: of `a/net.safetensors`, at `a/net.fisher-data.safetensors`.

    Returns:
        The path, whether there is a file or not.

    Raises:
        ValueError: If the run does not say where the weights stand, or there is no such kind.
    """
    _check(kind)
    if run.beside is None:
        raise ValueError(
            "A diagonal is kept beside the model's weights: say where they stand, "
            'Run.on(beside=Path("net.safetensors")).'
        )
    return Path(run.beside).with_name(f"{Path(run.beside).stem}.fisher-{kind}.safetensors")


def find(model: nn.Module, parts: Sequence[Data], run: Run, kind: Kind) -> Kept | None:
    """The diagonal that is kept for a model and for the data that these parts make up together.

    Returns:
        The diagonal, on the model's device; None if there is no file.

    Raises:
        Unfit: If there is a file which is damaged, or of another model, other data or another kind;
            the message says which, and what to do.
        ValueError: If the run does not say where the weights stand, or there is no such kind.
    """
    path = place(run, kind)
    if not path.exists():
        return None
    values, about = _read(path)
    differs = [
        _DIFFERS.get(name) or f"its {name} is {about.get(name)!r}, not {value!r}"
        for name, value in _identity(model, parts, kind).items()
        if about.get(name) != value
    ]
    if differs:
        _refuse(path, f"does not belong here: {'; '.join(differs)}")
    own = trainable(model)
    odd = sorted(values.keys() ^ own.keys())
    if odd:
        where = "model or frozen in it" if odd[0] in values else "file"
        _refuse(path, f"is of other parameters: {odd[0]} is not in the {where}")
    if about.get("values") != weights_digest(values) or not _sound(values, own):
        _refuse(path, "is damaged: its numbers cannot be right")
    whole = {name: values[name].to(parameter.device) for name, parameter in own.items()}
    return Kept(whole, float(about.get("seconds", 0)))


def data_digest(parts: Sequence[Data]) -> str:
    """A fingerprint of examples, however they are ordered and parted, at next to no cost.

    Of all: ids and labels. Of at most 32, spread evenly over the sorted ids: the inputs as a model
    sees them, on the CPU. Inputs that changed elsewhere go unnoticed.

    Returns:
        Thirty-two hexadecimal digits.
    """
    ids = torch.cat([part.ids for part in parts])
    labels = torch.cat([part.labels.cpu() for part in parts])
    order = torch.from_numpy(np.argsort(ids.numpy(), kind="stable"))  # quick where parts are sorted
    few = min(LOOKED_AT, len(ids))
    chosen = order[torch.arange(few) * len(ids) // few]
    known: dict[str, Tensor] = {"ids": ids[order], "labels": labels[order]}
    start = 0
    for part in parts:
        own = chosen[(chosen >= start) & (chosen < start + len(part))] - start
        start += len(part)
        if len(own):
            examples = part.take(own).to(torch.device("cpu"))
            inputs = torch.cat([batch.inputs for batch in examples.batches(len(own))])
            known |= {f"input {i}": x for i, x in zip(examples.ids.tolist(), inputs, strict=True)}
    return weights_digest(known)


# --- What is measured, read, written and compared -----------------------------------------------


def _check(kind: str) -> None:
    if kind not in get_args(Kind):
        raise ValueError(unknown("kind of diagonal", kind, get_args(Kind)))


def _measured(model: nn.Module, data: Data, run: Run, kind: Kind) -> Diagonal:
    _check(kind)
    if kind == "outputs":
        return sensitivity(model, data, run=run)
    return diagonal(model, data, labels=kind, seed=SEED, run=run)


def _identity(model: nn.Module, parts: Sequence[Data], kind: Kind) -> dict[str, Any]:
    """All that a diagonal depends on."""
    return {
        "format": FORMAT,
        "kind": kind,
        "seed": SEED,
        "n": sum(map(len, parts)),
        "data": data_digest(parts),
        "weights": weights_digest(model.state_dict()),
    }


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A file's tensors, and what it says of them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}  # ruff: ignore[in-dict-keys]
            return values, dict(json.loads((file.metadata() or {})[KEY]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        _refuse(path, "is damaged, or holds no diagonal")


def _write(model: nn.Module, parts: Sequence[Data], run: Run, kind: Kind, kept: Kept) -> None:
    from safetensors.torch import save

    values = {name: value.cpu().contiguous() for name, value in kept.whole.items()}
    if not _sound(values, trainable(model)):
        raise FloatingPointError(
            "The diagonal over the training data is not finite: check the model's weights."
        )
    about = {
        **_identity(model, parts, kind),
        "seconds": kept.seconds,
        "values": weights_digest(values),
    }
    write_whole(place(run, kind), save(values, metadata={KEY: json.dumps(about)}))


def _sound(values: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether these are numbers that a diagonal could have: one of 0 or more for each weight."""
    return all(
        values[name].shape == own[name].shape
        and values[name].dtype == torch.float64
        and bool((values[name].isfinite() & (values[name] >= 0)).all())
        for name in own
    )


def _refuse(path: Path, why: str) -> NoReturn:
    raise Unfit(f"The file {path} {why}. Delete it, or run `oblivio fisher` again.")
