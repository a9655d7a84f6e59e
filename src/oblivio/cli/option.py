"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

DataFolder = Annotated[
    Optional[Path],  # ruff: ignore[non-pep604-annotation-optional]
    typer.Option("--data", help="Folder of data sets; $OBLIVIO_DATA if not given, else a cache."),
]
Device = Annotated[
    Optional[str],  # ruff: ignore[non-pep604-annotation-optional]
    typer.Option("--device", help="auto, cpu, cuda or mps."),
]


def look_for_data_in(folder: Path | None) -> None:
    """Let data sets be read from this folder, here and in processes that are started."""
    if folder is not None:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder of data sets {folder}.")
        os.environ["OBLIVIO_DATA"] = str(folder.resolve())
