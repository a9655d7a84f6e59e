"""What is shown: bars while cells are done, tables of what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from oblivio.bench.event import Event
    from oblivio.bench.spec import Experiment
    from oblivio.bench.store import Record


def announce(
    console: Console, asked: Experiment, plan: Any, folder: Path, jobs: int, engine: str = "local"
) -> None:
    """Say what is going to be done, where, and how much of it at once."""
    console.print(f"[bold]{asked.name}[/] {asked.title}", highlight=False)
    kept = f", {len(plan.done)} are done already" if plan.done else ""
    where = {0: "as many at once as fit", 1: "one after another"}.get(jobs, f"{jobs} at once")
    where += " on a Ray cluster" if engine == "ray" else ""
    shadows = f" and {len(plan.cases)} with shadow models" if plan.cases else ""
    console.print(
        f"{len(plan.left)} cells{shadows} to do{kept}; {where} on {asked.engine.device}; "
        f"results in [bold]{folder}[/]",
        highlight=False,
    )


class Display:
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
        """Show an event."""
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
        if event.task.startswith(("original · ", "shadow models · ")):
            return  # if it failed, its cells say so
        self.finished += 1
        self.progress.update(self.whole, completed=self.finished)
        why = f": {event.text}" if event.text else ""
        if event.kind == "failed" or not self.console.is_terminal:
            line = f"{self.finished}/{self.total} {event.kind}: {event.task}{why}"
            colour = "red" if event.kind == "failed" else None
            self.console.print(line, style=colour, highlight=False, markup=False)


def print_cells(console: Console, asked: Experiment, plan: Any) -> None:
    """List all cells: which are done, which are left."""
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
    shadows = f"; {len(plan.cases)} left with shadow models" if plan.cases else ""
    console.print(f"{len(plan.done)} done, {len(plan.left)} left{shadows}")


def tell(
    console: Console,
    folder: Path,
    records: list[Record],
    settings: dict[str, Any],
    proofs: Sequence[Record] = (),
) -> None:
    """Print the results, and write the report into the folder."""
    from oblivio.report.evidence_table import print_evidence
    from oblivio.report.page import write_page
    from oblivio.report.table import print_table

    print_table(records, console)
    print_evidence(proofs, console)
    page = write_page(folder, records, settings, proofs=proofs)
    console.print(f"report: [bold]{page}[/]", highlight=False)
