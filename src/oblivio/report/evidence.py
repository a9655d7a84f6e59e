"""What the page shows of shadow models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oblivio.bench.stats import Record
from oblivio.report.section import Sheet


def evidence_parts(proofs: Sequence[Record], sheet: Sheet) -> list[dict[str, Any]]:
    """A part of the page for every scenario that was repeated with shadow models."""
    return []
