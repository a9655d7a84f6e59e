"""`oblivio list`: the names that there are."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

TOGETHER = {"methods": ("methods", "gan")}
"""Families that are shown as one."""


def command(
    family: Annotated[
        Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
        typer.Argument(
            help="One family, such as methods, evidence or experiments; all if none is named."
        ),
    ] = None,
) -> None:
    """List the names that there are, a line each with what it is.

    Where some are for classifiers and some for GANs, it is said between.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from oblivio import catalogue

    families = [*catalogue.FAMILIES, "experiments"]
    if family is not None and family not in families:
        raise ValueError(catalogue.unknown("family", family, families))
    shown = {part for parts in TOGETHER.values() for part in parts[1:]}
    console = Console()
    for name in [one for one in families if one not in shown] if family is None else [family]:
        rows = _rows(name)
        said = any(works_on for _, works_on, _ in rows)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        if said:
            table.add_column(style="dim", no_wrap=True)
        table.add_column()
        for called, works_on, summary in rows:
            table.add_row(called, *([works_on] if said else []), escape(summary))
        if family is None:
            console.print(f"\n[bold cyan]{name}[/]")
        console.print(table if rows else "none yet")


def _rows(family: str) -> list[tuple[str, str, str]]:
    """Each name, what it is for where that differs, and what it is."""
    from oblivio import catalogue
    from oblivio.bench import spec
    from oblivio.bench.kind import works_on

    if family == "experiments":
        return [(name, "", spec.title(path)) for name, path in spec.experiments().items()]
    return [
        (entry.name, works_on(part, entry.name), entry.summary)
        for part in TOGETHER.get(family, (family,))
        for entry in catalogue.entries(part)
    ]
