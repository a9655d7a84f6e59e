"""`oblivio tune`: every method's settings, searched with one budget and without the test data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from oblivio.cli.display import Display
from oblivio.cli.option import DataFolder, Device, Jobs, look_for_data_in, usual_jobs
from oblivio.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from oblivio.bench.event import Event
    from oblivio.bench.study import Outcome
    from oblivio.bench.tuned import Tuning

_CAPTION = (
    "Given is what the experiment says.",
    "± is half of a 95 % Student-t interval over the search's seeds.",
    "The best of many looks better than it is: what it is worth, the tuned experiment says.",
)


def command(
    experiment: Annotated[
        str, typer.Argument(help="An experiment's name (see `oblivio list`), or a TOML file.")
    ] = "digits",
    trials: Annotated[
        int, typer.Option(help="Settings tried of each method, its published default the first.")
    ] = 20,
    seeds: Annotated[int, typer.Option(help="Originals that each of them is tried on.")] = 3,
    share: Annotated[
        float, typer.Option(help="Part of the training data that stands in for the test data.")
    ] = 0.2,
    time_limit: Annotated[
        Optional[float],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(help="The most time that a method may take, as a share of retrain's."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Folder of results; runs/NAME-tune if not given.")  # ruff: ignore[non-pep604-annotation-optional]
    ] = None,
    storage: Annotated[
        Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(help="A database for many machines, such as postgresql://…; else a file."),
    ] = None,
    data: DataFolder = None,
    device: Device = None,
    jobs: Jobs = 0,
) -> None:
    """Search the settings of every method, and write the experiment with the best of them.

    The test data, and the seeds and forget sets of the report, are not looked at.
    """
    from rich.console import Console

    look_for_data_in(data)
    from oblivio.bench import spec
    from oblivio.bench.store import Store
    from oblivio.bench.tune import tune
    from oblivio.bench.tuned import Rule, write

    asked, rule = spec.read(experiment, device=device), Rule(trials, seeds, share, time_limit)
    store = Store(out or Path("runs") / f"{asked.name}-tune", warn=lambda text: say(text, "yellow"))
    store.create()
    console = Console()
    console.print(f"[bold]{asked.name}[/]: results in [bold]{store.folder}[/]", highlight=False)
    try:
        with (display := Display(console, 0)):
            tell, jobs = partial(_hear, console, display), jobs or usual_jobs(asked)
            tuning = tune(asked, store, rule, tell=tell, jobs=jobs, storage=storage)
    except KeyboardInterrupt:
        say("Stopped. What is done is kept: the same command goes on from there.", "yellow")
        raise typer.Exit(130) from None
    path = write(tuning, store.folder)
    _print(console, tuning)
    console.print(f"The tuned experiment: [bold]oblivio run {path}[/]", highlight=False)


def _hear(console: Console, display: Display, event: Event) -> None:
    """Show bars of cells, and a line for each trial."""
    if event.kind == "trial":
        line = f"{event.task}, trial {event.done} of {event.total}: {event.text}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    elif event.kind == "size":
        display.progress.update(display.whole, total=event.total)
    elif console.is_terminal or event.kind == "warning":
        # That settings are impossible is a result of a search: its trial says so.
        display.hear(replace(event, kind="done") if event.kind == "failed" else event)


def _print(console: Console, tuning: Tuning) -> None:
    """What is best, by which rule it was searched, and what to mind."""
    from oblivio.bench.tuned import in_words

    console.print()
    console.print(_table(tuning))
    for found in tuning.found:
        best = "none" if found.best is None else in_words(found.best.settings)
        console.print(f"[bold]{found.search.label}[/]: {best}", highlight=False)
    console.print()
    console.print(" ".join([*tuning.said, *_CAPTION]), style="dim", highlight=False, markup=False)
    if tuning.unsearched:
        console.print(f"Not searched: {', '.join(tuning.unsearched)}.", style="dim", markup=False)
    console.print()
    for found in tuning.found:
        for note in found.notes(tuning.original):
            console.print(f"[yellow]note:[/] {found.search.label}: {note}.", highlight=False)


def _table(tuning: Tuning) -> Table:
    """A row for each method."""
    from oblivio.report import words
    from oblivio.report.sweep_table import empty_table

    table = empty_table("Average gap to retrain, on held-out training data", 15)
    for column in ("Default", "Given", "Best", "Trials", "Time"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("original", "", "", _gap(tuning.original), end_section=True)
    for found in tuning.found:
        gaps, best = map(_gap, (found.default, found.given, found.best)), found.best
        seconds = None if best is None else best.seconds
        time = words.ABSENT if seconds is None else words.duration(seconds)
        table.add_row(found.search.label, *gaps, str(len(found.outcomes)), time)
    return table


def _gap(outcome: Outcome | None) -> str:
    """A trial's average gap with its interval."""
    from oblivio.report import words

    known = None if outcome is None or outcome.reason else outcome.gap
    return words.ABSENT if known is None else words.spread(known)
