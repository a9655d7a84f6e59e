"""The command line. What is heavy is imported inside the commands, so that `--help` is quick."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from torch import Tensor, nn

    from oblivio.bench.run import Event
    from oblivio.bench.spec import Experiment
    from oblivio.bench.store import Record
    from oblivio.core import Data, Run
    from oblivio.curvature.cache import Kind

app = typer.Typer(
    help="Make a trained PyTorch model forget some of its training data, and measure honestly how "
    "well it did: beside the same model retrained without that data.",
    epilog="Start with: oblivio run",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False


def main() -> None:
    """Run a command; a user's mistake is one sentence and exit status 2."""
    try:
        app()
    except (ValueError, TypeError, KeyError, OSError) as error:
        if _debug:
            traceback.print_exc()
        _say(str(error.args[0]) if isinstance(error, KeyError) else str(error), "red")
        sys.exit(2)


def _say(text: str, colour: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(f"[{colour}]oblivio:[/] ", end="")
    Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        from oblivio import __version__

        typer.echo(f"oblivio {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    global _debug
    _debug = debug


@app.command()
def run(
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment's name (see `oblivio list`), a TOML file, or a folder of them."
        ),
    ] = "digits",
    out: Annotated[
        Optional[Path], typer.Option(help="Folder of results; runs/NAME if not given.")  # ruff: ignore[non-pep604-annotation-optional]
    ] = None,
    data: Annotated[
        Optional[Path],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(help="Folder of data sets; $OBLIVIO_DATA if not given, else a cache."),
    ] = None,
    device: Annotated[
        Optional[str], typer.Option(help="auto, cpu, cuda or mps.")  # ruff: ignore[non-pep604-annotation-optional]
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="Cells that run at once; 0 is as many as the CPU bears.")
    ] = 0,
    dry: Annotated[bool, typer.Option("--dry", help="Only list the cells: done, left.")] = False,
) -> None:
    """Train, forget, judge beside retraining, and write a report.

    Results are kept: what is done is not done again.
    """
    from rich.console import Console

    _look_for_data_in(data)
    from oblivio.bench import spec

    console = Console()
    members = spec.members(experiment)
    asked = [spec.read(member, device=device) for member in members]
    several = members != [experiment]
    failed = False
    for one in asked:
        folder, shared = _folders(one.name, experiment if several else None, out)
        failed |= _run_one(console, one, folder, shared, jobs, dry)
    if failed:
        raise typer.Exit(1)


def _look_for_data_in(folder: Path | None) -> None:
    if folder is not None:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder of data sets {folder}.")
        os.environ["OBLIVIO_DATA"] = str(folder.resolve())


def _folders(name: str, suite: str | None, out: Path | None) -> tuple[Path, Path | None]:
    """Where an experiment's results are, and the models that it shares with others of its suite."""
    if suite is not None:
        own = (out or Path("runs") / Path(suite).name) / Path(name).name
        return own, own.parent / "models"
    if out is None and "/" in name:
        return Path("runs") / name, Path("runs") / Path(name).parent / "models"
    return out or Path("runs") / name, None


def _run_one(
    console: Console, asked: Experiment, folder: Path, shared: Path | None, jobs: int, dry: bool
) -> bool:
    """Run one experiment and tell of it.

    Returns:
        Whether a cell failed.
    """
    from dataclasses import asdict

    from oblivio.bench import run as bench
    from oblivio.bench.store import Store

    store = Store(folder, shared, warn=lambda text: _say(text, "yellow"))
    plan = bench.plan(asked, store)
    if dry:
        _print_cells(console, asked, plan)
        return False
    store.create()
    if plan.left:
        bench.check(asked)
        jobs = jobs or _jobs(asked)
        _announce(console, asked, plan, folder, jobs)
        try:
            with _display(console, plan) as tell:
                records = bench.run(asked, store, jobs=jobs, tell=tell)
        except KeyboardInterrupt:
            _say("Stopped. What is done is kept: the same command goes on from there.", "yellow")
            raise typer.Exit(130) from None
    else:
        console.print(f"Nothing to do: all {len(plan.done)} cells of {asked.name} are done.")
        records = [r for cell in plan.done if (r := store.read_record(cell.key))]
    _tell(console, folder, records, asdict(asked))
    return any(record["status"] == "failed" for record in records)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results.")],
) -> None:
    """Write the report of a folder again, from its records alone."""
    from rich.console import Console

    found = [folder] if (folder / "experiment.toml").is_file() else []
    found = found or sorted(path.parent for path in folder.glob("*/experiment.toml"))
    if not found:
        raise FileNotFoundError(f"{folder} is no folder of results: it has no experiment.toml.")
    for one in found:
        _report_one(Console(), one)


def _report_one(console: Console, folder: Path) -> None:
    """Write one folder's report again."""
    from oblivio.bench import spec
    from oblivio.bench.store import Store

    asked = spec.written(folder / "experiment.toml")
    store = Store(folder, warn=lambda text: _say(text, "yellow"))
    found = {record["key"]: record for record in store.records()}
    records = [found[key] for key in asked.pop("keys") if key in found]
    if not records:
        raise FileNotFoundError(f"{folder} holds no records of the experiment {asked['name']}.")
    if len(found) > len(records):
        console.print(
            f"{len(found) - len(records)} records of other settings lie in {folder} too; "
            f"they are left out."
        )
    _tell(console, folder, records, asked)


@app.command()
def fisher(
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
    data: Annotated[
        Optional[Path],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Option(help="Folder of data sets; $OBLIVIO_DATA if not given, else a cache."),
    ] = None,
    device: Annotated[
        Optional[str], typer.Option(help="auto, cpu, cuda or mps.")  # ruff: ignore[non-pep604-annotation-optional]
    ] = None,
) -> None:
    """Compute what each weight matters to the training data, and keep it beside the weights.

    Requests to forget then need no pass over all of the data. A file that does not fit is replaced.
    """
    from rich.console import Console

    _look_for_data_in(data)
    from oblivio.bench import spec
    from oblivio.curvature import cache

    model, train, run = _as_trained(spec.read(experiment, device=device), weights)
    console, known = Console(), cast("Kind", kind)
    path = cache.place(run, known)
    try:
        there = cache.find(model, [train], run, known)
    except cache.Unfit:
        _say(f"{path} is damaged or of other weights, data or format: it is replaced.", "yellow")
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

    from oblivio.core import Run
    from oblivio.data.source import load
    from oblivio.models import factory, load_weights

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


@app.command("list")
def list_(
    family: Annotated[
        Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Argument(help="methods, scenarios, pruners, metrics, data, models or experiments."),
    ] = None,
) -> None:
    """List the names that there are, a line each with what it is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from oblivio import catalogue
    from oblivio.bench import spec

    families = [*catalogue.FAMILIES, "experiments"]
    if family is not None and family not in families:
        raise ValueError(catalogue.unknown("family", family, families))
    console = Console()
    for name in families if family is None else [family]:
        if name == "experiments":
            entries = [catalogue.Entry(n, spec.title(p)) for n, p in spec.experiments().items()]
        else:
            entries = catalogue.entries(name)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        for entry in entries:
            table.add_row(entry.name, escape(entry.summary))
        if family is None:
            console.print(f"\n[bold cyan]{name}[/]")
        console.print(table if entries else "none yet")


# --- What is shown ------------------------------------------------------------------------------


def _jobs(experiment: Experiment) -> int:
    """As many cells at once as there are cores for; one on a GPU."""
    from joblib import cpu_count

    if experiment.engine.device != "cpu":
        return 1
    return max(1, cpu_count() // experiment.engine.threads)


def _announce(console: Console, asked: Experiment, plan: Any, folder: Path, jobs: int) -> None:
    console.print(f"[bold]{asked.name}[/] {asked.title}", highlight=False)
    kept = f", {len(plan.done)} are done already" if plan.done else ""
    where = f"{jobs} at once" if jobs > 1 else "one after another"
    console.print(
        f"{len(plan.left)} cells to do{kept}; {where} on {asked.engine.device}; "
        f"results in [bold]{folder}[/]",
        highlight=False,
    )


class _Display:
    """Hears events and shows them: bars on a terminal, a line for each finished cell elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed
        from rich.progress import TimeRemainingColumn as Remaining

        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            Elapsed(),
            Remaining(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.whole = self.progress.add_task("[bold]cells", total=total, note="")
        self.total, self.finished = total, 0
        self.bars: dict[str, Any] = {}

    def __enter__(self) -> Callable[[Event], None]:
        self.progress.start()
        return self.hear

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def hear(self, event: Event) -> None:
        if event.kind == "warning":
            self.console.print(f"[yellow]note:[/] {event.text}")
            return
        if event.kind in ("start", "progress"):
            if event.task not in self.bars:
                self.bars[event.task] = self.progress.add_task(event.task, total=None, note="")
            self.progress.update(
                self.bars[event.task],
                total=event.total or None,
                completed=event.done,
                note=event.text,
            )
            return
        bar = self.bars.pop(event.task, None)
        if bar is not None:
            self.progress.remove_task(bar)
        if event.task.startswith("original · "):
            return  # if it failed, its cells say so
        self.finished += 1
        self.progress.update(self.whole, completed=self.finished)
        why = f": {event.text}" if event.text else ""
        if event.kind == "failed" or not self.console.is_terminal:
            line = f"{self.finished}/{self.total} {event.kind}: {event.task}{why}"
            colour = "red" if event.kind == "failed" else None
            self.console.print(line, style=colour, highlight=False, markup=False)


def _display(console: Console, plan: Any) -> _Display:
    return _Display(console, len(plan.left))


def _print_cells(console: Console, asked: Experiment, plan: Any) -> None:
    from rich.table import Table

    columns = ("cell", "scenario", "method", "original", "state")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    done = {cell.key for cell in plan.done}
    for cell in asked.cells():
        state = "[green]done[/]" if cell.key in done else "left"
        original = ", ".join(cell.about_original)
        table.add_row(cell.key, cell.scenario["name"], cell.method["name"], original, state)
    console.print(f"[bold]{asked.name}[/] {asked.title}", highlight=False)
    console.print(table)
    console.print(f"{len(plan.done)} done, {len(plan.left)} left")


def _tell(console: Console, folder: Path, records: list[Record], settings: dict[str, Any]) -> None:
    from oblivio.report.page import write_page
    from oblivio.report.table import print_table

    print_table(records, console)
    page = write_page(folder, records, settings)
    console.print(f"report: [bold]{page}[/]", highlight=False)
