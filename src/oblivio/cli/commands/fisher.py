"""`oblivio fisher`: what each weight matters to the training data, kept beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from oblivio.cli.option import DataFolder, Device, look_for_data_in
from oblivio.cli.say import say

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from torch import Tensor, nn

    from oblivio.bench.spec import Experiment
    from oblivio.core import Data, Run
    from oblivio.curvature.cache import Kind


def command(
    weights: Annotated[
        Path, typer.Argument(help="A file of weights: safetensors or a torch state dict.")
    ],
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment's name or TOML file: it says what `model` the weights are of, and "
            "what `data` they were trained on."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="Fisher information with labels from the data, or drawn from the model; or the "
            "sensitivity of the outputs."
        ),
    ] = "data",
    data: DataFolder = None,
    device: Device = None,
) -> None:
    """Compute what each weight matters to the training data, and keep it beside the weights.

    Requests to forget then need no pass over all of the data. A file that does not fit is replaced.
    """
    from rich.console import Console

    look_for_data_in(data)
    from oblivio.bench import spec
    from oblivio.curvature import cache

    model, train, run = _as_trained(spec.read(experiment, device=device), weights)
    console, known = Console(), cast("Kind", kind)
    path = cache.place(run, known)
    try:
        there = cache.find(model, [train], run, known)
    except cache.Unfit:
        say(f"{path} is damaged or of other weights, data or format: it is replaced.", "yellow")
        path.unlink()
        there = None
    with console.status(f"one pass over {len(train)} examples"):
        cache.keep(model, train, run, known)
    kept = cache.find(model, [train], run, known)
    assert kept is not None
    verb = "is there already" if there else "is written"
    console.print(
        f"[bold]{path}[/] {verb}: {path.stat().st_size / 1e6:.1f} MB, {len(train)} examples, "
        f"{kept.seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_shares(kept.whole))


def _as_trained(asked: Experiment, weights: Path) -> tuple[nn.Module, Data, Run]:
    """The experiment's network with these weights, its training data, and a run beside them."""
    import torch

    from oblivio.bench.kind import of_classifiers
    from oblivio.core import Run
    from oblivio.data.source import load
    from oblivio.models import factory, load_weights

    of_classifiers(asked.train, "oblivio fisher")
    torch.set_num_threads(asked.engine.threads)
    run = Run.on(asked.engine.device, precision=asked.engine.precision, beside=weights)
    source = load(asked.data)
    spec = {name: value for name, value in asked.model.items() if name != "weights"}
    model = load_weights(factory(spec, source.shape, source.classes)(), weights)
    return model.to(run.device).eval(), source.train.to(run.device), run


def _shares(whole: Mapping[str, Tensor]) -> RichTable:
    """How much of the information, and how many of the weights, are in which layer."""
    from rich.table import Table

    layers: dict[str, tuple[int, float]] = {}
    for name, values in whole.items():
        layer = name.rpartition(".")[0] or name
        weights, information = layers.get(layer, (0, 0.0))
        layers[layer] = (weights + values.numel(), information + float(values.sum()))
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("layer", style="bold")
    for title in ("weights", "share of weights", "share of information"):
        table.add_column(title, justify="right")
    sums = [sum(column) or 1 for column in zip(*layers.values(), strict=True)]
    for layer, (weights, information) in layers.items():
        shares = (weights / sums[0], information / sums[1])
        table.add_row(layer, f"{weights:,}", *(f"{100 * share:.1f} %" for share in shares))
    return table
