"""What shadow models say, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from oblivio.bench.stats import Record


def print_evidence(proofs: Sequence[Record], console: Console) -> None:
    """Print a table for every scenario that was repeated with shadow models."""
