"""`oblivio cleanse`: a Trojan model forgets its poisoned images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from oblivio.cli.option import DataFolder, Device, look_for_data_in
from oblivio.cli.say import say

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from torch import Tensor, nn

    from oblivio.apps.trojan import Cleansed
    from oblivio.bench.spec import Experiment
    from oblivio.core import Data, Method, Run
    from oblivio.data.attack import Attack
    from oblivio.data.source import Source

_ROWS = {
    "sa": "accuracy on test data (SA)",
    "asr": "attack success rate (ASR)",
    "asr_all": "ASR with the target class",
    "obeys": "poisoned training images obeyed",
    "ra": "accuracy on other training images",
}


def command(
    weights: Annotated[
        Path, typer.Argument(help="The poisoned model: safetensors or a torch state dict.")
    ],
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment's name or TOML file: it says what `model` the weights are of, on "
            "what `data` they were trained, poison included, and how (`train`)."
        ),
    ],
    ids: Annotated[
        Optional[Path],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(help="The poisoned images: a text or CSV file of ids."),
    ] = None,
    target: Annotated[
        Optional[int],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(min=0, help="The class that the trigger fetches."),
    ] = None,
    trigger: Annotated[
        Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(
            help="The trigger, such as \"name = 'patch', size = 2\": to find the images by, unless "
            "their ids are given, and to measure the attack success rate."
        ),
    ] = None,
    find: Annotated[
        Optional[float],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(
            metavar="SHARE",
            help="Where neither ids nor trigger are known: forget nothing, but write the ids of "
            "this share of the target class, the most suspicious first, for a person to look at.",
        ),
    ] = None,
    method: Annotated[
        Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(
            help="How to forget, with the experiment's settings if it has it; l1_sparse at rising "
            "rates, until it is forgotten, if not given."
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(help="The cleansed weights; NAME-cleansed.safetensors if not given."),
    ] = None,
    data: DataFolder = None,
    device: Device = None,
) -> None:
    """Make a model forget poisoned images, and with them the trigger that it obeys.

    The weights are written beside a JSON file of accuracy and attack success before and after.
    """
    from rich.console import Console

    look_for_data_in(data)
    from oblivio.apps import trojan
    from oblivio.bench import spec
    from oblivio.bench.kind import of_classifiers
    from oblivio.core import Split

    asked = spec.read(experiment, device=device)
    recipe = of_classifiers(asked.train, "oblivio cleanse")
    methods = trojan.attempts(recipe) if method is None else [_method(asked, method)]
    attack, console = _attack(trigger, target), Console()
    model, source, run = _poisoned(asked, weights)
    if find is not None:
        console.print(_suspects(model, source.train, target, find, weights), soft_wrap=True)
        return
    found, how = _found(source.train, ids, attack)
    with console.status(f"forgetting {len(found)} images"):
        split = Split.of(source.train, found)
        done = trojan.cleanse(model, split, source.test, run, methods, attack)
    place = out or weights.with_name(f"{weights.stem}-cleansed.safetensors")
    _write(place, done, split.forget.ids, how)
    console.print(_table(done))
    console.print(
        f"{len(found)} images, {how}, forgotten in {done.seconds:.1f} s and {done.attempts} "
        f"attempt{'' if done.attempts == 1 else 's'}; written: [bold]{place}[/]",
        highlight=False,
        soft_wrap=True,
    )
    if not done.gone:
        say(
            f"The model is not cleansed: {done.after['obeys']:.1f} % of the poisoned images are "
            f"still judged as they are labelled, and accuracy on the others went from "
            f"{done.before['ra']:.1f} % to {done.after['ra']:.1f} %. Try another --method.",
            "yellow",
        )


def _attack(trigger: str | None, target: int | None) -> Attack | None:
    """The attack, if its trigger is known."""
    from oblivio.bench.spec import tomllib
    from oblivio.data.attack import Attack
    from oblivio.data.triggers import trigger_of

    if trigger is None:
        return None
    if target is None:
        raise ValueError("--trigger needs --target, the class that the trigger fetches.")
    try:
        table = tomllib.loads(f"trigger = {{ {trigger} }}")["trigger"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(
            f"--trigger {trigger!r} cannot be read: write it as \"name = 'patch', size = 2\"."
        ) from error
    return Attack(trigger_of(table), target)


def _method(asked: Experiment, name: str) -> Method:
    """The experiment's method of this name, or one with its default settings."""
    from oblivio.catalogue import choose

    spec = next((table for table in asked.methods if table["name"] == name), {"name": name})
    return choose("methods", spec)


def _poisoned(asked: Experiment, weights: Path) -> tuple[nn.Module, Source, Run]:
    """The model with its weights, its data, and a run that could make it again."""
    from dataclasses import replace

    import torch

    from oblivio.core import Origin, Run
    from oblivio.data.source import load
    from oblivio.models import factory, load_weights

    torch.set_num_threads(asked.engine.threads)
    source = load(asked.data)
    spec = {name: value for name, value in asked.model.items() if name != "weights"}
    build = factory(spec, source.shape, source.classes)
    run = Run.on(
        asked.engine.device, precision=asked.engine.precision, origin=Origin(build, asked.train)
    )
    model = load_weights(build(), weights).to(run.device).eval()
    train, test = source.train.to(run.device), source.test.to(run.device)
    return model, replace(source, train=train, test=test), run


def _suspects(
    model: nn.Module, train: Data, target: int | None, share: float, weights: Path
) -> str:
    """Write the ids of suspicious images, and say where they are."""
    from oblivio.apps.trojan import suspects
    from oblivio.files import write_whole

    if target is None:
        raise ValueError("--find needs --target, the class in which to look.")
    found = suspects(model, train, target, share).tolist()
    place = weights.with_name(f"{weights.stem}-suspects.csv")
    write_whole(place, "\n".join(["id", *map(str, found), ""]).encode())
    return (
        f"{len(found)} images of class {target} are in [bold]{place}[/], the most suspicious "
        "first. Some are clean, and some poisoned ones may be missing: look at them, and when you "
        "know the trigger, or all ids, come back with --trigger or --ids."
    )


def _found(train: Data, ids: Path | None, attack: Attack | None) -> tuple[Tensor, str]:
    """The ids of the poisoned images, and how they were found."""
    import torch

    from oblivio.apps.trojan import bearers
    from oblivio.scenarios.items import read_ids

    if ids is not None:
        return torch.tensor(read_ids(ids)), f"named in {ids}"
    if attack is not None:
        return bearers(attack, train), "found by the trigger that they bear"
    raise ValueError(
        "Say which images are poisoned: by --ids FILE, or by --trigger with --target; where "
        "neither is known, --find SHARE with --target says which to look at."
    )


def _write(place: Path, done: Cleansed, forgotten: Tensor, how: str) -> None:
    """The weights, and beside them what there is to say of them."""
    from safetensors.torch import save

    from oblivio.catalogue import settings_of
    from oblivio.files import write_whole

    state = {k: v.detach().cpu().contiguous().clone() for k, v in done.model.state_dict().items()}
    said: Mapping[str, Any] = {
        "before": done.before,
        "after": done.after,
        "cleansed": done.gone,
        "method": {"name": type(done.method).__name__, **settings_of(done.method)},
        "attempts": done.attempts,
        "seconds": done.seconds,
        "found": how,
        "forgotten": forgotten.tolist(),
    }
    write_whole(place, save(state))
    write_whole(place.with_suffix(".json"), json.dumps(said, indent=1).encode())


def _table(done: Cleansed) -> RichTable:
    """Percentages before and after."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("%", style="bold")
    for title in ("before", "after"):
        table.add_column(title, justify="right")
    for name, title in _ROWS.items():
        if name in done.before:
            table.add_row(title, f"{done.before[name]:.1f}", f"{done.after[name]:.1f}")
    return table
