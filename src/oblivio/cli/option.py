"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from oblivio.bench.spec import Experiment

DataFolder = Annotated[
    Optional[Path],  # ruff: ignore[non-pep604-annotation-optional]
    typer.Option("--data", help="Folder of data sets; $OBLIVIO_DATA if not given, else a cache."),
]
Device = Annotated[
    Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
    typer.Option("--device", help="auto, cpu, cuda or mps."),
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", min=0, help="Cells that run at once; 0 is as many as the CPU bears."),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Where cells run: local, in processes of this machine, or ray, on the machines of a "
        "Ray cluster. (What they compute with, the table engine of an experiment says.)",
    ),
]


def usual_jobs(experiment: Experiment) -> int:
    """As many cells at once as there are cores for; one on a GPU."""
    from joblib import cpu_count

    if experiment.engine.device != "cpu":
        return 1
    return max(1, cpu_count() // experiment.engine.threads)


def look_for_data_in(folder: Path | None) -> None:
    """Let data sets be read from this folder, here and in processes that are started."""
    if folder is not None:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder of data sets {folder}.")
        os.environ["OBLIVIO_DATA"] = str(folder.resolve())
