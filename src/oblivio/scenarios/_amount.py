"""How many examples are drawn: a share of them, or a count."""

from __future__ import annotations

USUAL = 0.1
"""The share where neither is given."""


def share_of(fraction: float | None, count: int | None) -> float | None:
    """The share that is meant; none where it is a count.

    Returns:
        The fraction, or the usual one.

    Raises:
        ValueError: If both are given, or a number is out of range.
    """
    if fraction is not None and count is not None:
        raise ValueError("Give a fraction or a count, not both.")
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"The fraction {fraction} must lie between 0 and 1.")
    if count is not None and count < 1:
        raise ValueError(f"The count {count} must be 1 or more.")
    return USUAL if fraction is None and count is None else fraction


def amount(fraction: float | None, count: int | None, n: int) -> int:
    """How many of n examples these are."""
    return round(fraction * n) if fraction else (count or 0)
