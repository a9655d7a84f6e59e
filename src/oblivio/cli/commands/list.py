"""`oblivio list`: the names that there are."""

from __future__ import annotations

from typing import Annotated, Optional

import typer


def command(
    family: Annotated[
        Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Argument(
            help="One family, such as methods, evidence or experiments; all if none is named."
        ),
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
