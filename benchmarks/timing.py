"""Timing two things fairly: in turns, after a warm-up, the median of the ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypedDict


class Row(TypedDict):
    """One line of the table."""

    what: str
    value: str
    aim: str
    ok: bool


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(a: Callable[[], object], b: Callable[[], object], *, turns: int = 7) -> float:
    """The median over turns of a's time divided by b's: the machine's drift meets both alike."""
    a()
    b()
    return statistics.median(seconds(a) / seconds(b) for _ in range(turns))
