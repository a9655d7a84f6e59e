"""`oblivio run`: the cells of an experiment, or of a folder of experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from oblivio.cli.display import Display, announce, print_cells, tell
from oblivio.cli.option import DataFolder, Device, Engine, Jobs, look_for_data_in, usual_jobs
from oblivio.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console

    from oblivio.bench.spec import Experiment


def command(
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment's name (see `oblivio list`), a TOML file, or a folder of them."
        ),
    ] = "digits",
    out: Annotated[
        Optional[Path], typer.Option(help="Folder of results; runs/NAME if not given.")  # ruff: ignore[non-pep604-annotation-optional]
    ] = None,
    data: DataFolder = None,
    device: Device = None,
    jobs: Jobs = 0,
    engine: Engine = "local",
    dry: Annotated[bool, typer.Option("--dry", help="Only list the cells: done, left.")] = False,
) -> None:
    """Train, forget, judge beside retraining, and write a report.

    Results are kept: what is done is not done again.
    """
    from rich.console import Console

    look_for_data_in(data)
    from oblivio.bench import spec
    from oblivio.bench.run import check_engine

    check_engine(engine)
    console = Console()
    members = spec.members(experiment)
    asked = [spec.read(member, device=device) for member in members]
    several = members != [experiment]
    failed = False
    for one in asked:
        folder, shared = _folders(one.name, experiment if several else None, out)
        failed |= _run_one(console, one, folder, shared, jobs, engine, dry)
    if failed:
        raise typer.Exit(1)


def _folders(name: str, suite: str | None, out: Path | None) -> tuple[Path, Path | None]:
    """Where an experiment's results are, and the models that it shares with others of its suite."""
    if suite is not None:
        own = (out or Path("runs") / Path(suite).name) / Path(name).name
        return own, own.parent / "models"
    if out is None and "/" in name:
        return Path("runs") / name, Path("runs") / Path(name).parent / "models"
    return out or Path("runs") / name, None


def _run_one(
    console: Console,
    asked: Experiment,
    folder: Path,
    shared: Path | None,
    jobs: int,
    engine: str,
    dry: bool,
) -> bool:
    """Run one experiment and tell of it.

    Returns:
        Whether a cell failed.
    """
    from dataclasses import asdict

    from oblivio.bench import evidence
    from oblivio.bench import run as bench
    from oblivio.bench.store import Store

    store = Store(folder, shared, warn=lambda text: say(text, "yellow"))
    plan = bench.plan(asked, store)
    if dry:
        print_cells(console, asked, plan)
        return False
    store.create()
    if asked.evidence.models:
        store.evidence.create()
    if plan.total:
        bench.check(asked)
        if engine == "local":
            jobs = jobs or usual_jobs(asked)
        announce(console, asked, plan, folder, jobs, engine)
        try:
            with Display(console, plan.total) as hear:
                records = bench.run(asked, store, jobs=jobs, tell=hear, engine=engine)
        except KeyboardInterrupt:
            say("Stopped. What is done is kept: the same command goes on from there.", "yellow")
            raise typer.Exit(130) from None
    else:
        console.print(f"Nothing to do: all {len(plan.done)} cells of {asked.name} are done.")
        records = [r for cell in plan.done if (r := store.read_record(cell.key))]
    proofs = evidence.records(asked, store.evidence)
    tell(console, folder, records, asdict(asked), proofs)
    return any(record["status"] == "failed" for record in (*records, *proofs))
