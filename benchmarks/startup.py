"""How long the command line takes to answer."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.timing import Row, seconds


def rows() -> list[Row]:
    command = Path(sys.executable).with_name("oblivio")

    def ask() -> None:
        subprocess.run([command, "--help"], check=True, capture_output=True)

    ask()
    value = statistics.median(seconds(ask) for _ in range(5))
    row: Row = {
        "what": "oblivio --help",
        "value": f"{value:.2f} s",
        "aim": "< 1 s",
        "ok": value < 1,
    }
    return [row]
