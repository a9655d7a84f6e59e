"""Runs every benchmark, or those named, and prints one table: `python -m benchmarks [NAME …]`."""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import sys

# One thread on both sides of every ratio: the machine may be shared.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def main() -> int:
    import torch
    from rich.console import Console
    from rich.table import Table

    import benchmarks

    torch.set_num_threads(1)
    there = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name[0] != "_"]
    wanted = sys.argv[1:] or [name for name in there if name != "timing"]
    console = Console()
    table = Table("benchmark", "what", "measured", "aim", "", title="Ratios, measured in one run")
    missed = 0
    for name in wanted:
        console.print(f"[dim]measuring {name} …[/]")
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            missed += not row["ok"]
            mark = "[green]met[/]" if row["ok"] else "[red]missed[/]"
            table.add_row(name, row["what"], row["value"], row["aim"], mark)
    console.print(table)
    console.print(
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, one thread per side",
        highlight=False,
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
