"""How turns of unlearning and learning follow one another."""

from __future__ import annotations

from typing import Literal

Turn = Literal["unlearn", "learn"]


def plan(steps: int, learn: int, closing: float, cascaded: bool) -> tuple[list[list[Turn]], int]:
    """How turns follow one another: rounds of unlearning and learning, then learning alone.

    Args:
        steps: Turns in all.
        learn: Learning turns for each unlearning one.
        closing: The share of turns that close.
        cascaded: Whether a round is one unlearning turn after its learning ones; if not, there are
            two rounds: all unlearning, all learning.

    Returns:
        The rounds, and how many turns close.

    Example:
        >>> plan(7, 2, 0.1, True)
        ([['learn', 'learn', 'unlearn'], ['learn', 'learn', 'unlearn']], 1)
        >>> plan(5, 1, 0.2, False)
        ([['unlearn', 'unlearn'], ['learn', 'learn']], 1)
    """
    count = (steps - round(steps * closing)) // (1 + learn)
    rest = steps - count * (1 + learn)
    unlearn: list[Turn] = ["unlearn"]
    learning: list[Turn] = ["learn"] * learn
    if not cascaded:
        return [unlearn * count, learning * count], rest
    return [learning + unlearn for _ in range(count)], rest
