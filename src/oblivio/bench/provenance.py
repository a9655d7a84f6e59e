"""Where a number comes from: software, hardware and time."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import torch

import oblivio
from oblivio.bench.spec import Cell
from oblivio.bench.store import Record


def provenance(cell: Cell) -> Record:
    """Software, hardware and time: what a number needs in order to be one."""
    return {
        "oblivio": oblivio.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": cell.experiment.engine.device,
        "hardware": _hardware(cell.experiment.engine.device),
        "threads": cell.experiment.engine.threads,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@cache
def _commit() -> str | None:
    """The commit of oblivio's own checkout, with "+" if files differ from it; None if installed."""
    checkout = Path(oblivio.__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        asked = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"
