"""What a paired t test could have seen: its power, smallest detectable difference, needed seeds.

With δ the true mean of the paired differences, σ their standard deviation and c = t(1 − α/2, n−1),

    T² = (d̄ √n / σ)²  is noncentral F with 1 and n−1 degrees of freedom and noncentrality n δ² / σ²
    power(δ, n) = P(T² > c²)

T itself is noncentral t; its square gives both tails at once, and stays a number where scipy's tail
of noncentral t at −c is none. σ is the one observed, which of five seeds is itself known only to a
factor of 0.6 to 2.9 (95 %): read the results to one figure.

Source: J. Cohen, "Statistical power analysis for the behavioral sciences", 1988, section 2.2.
"""

from __future__ import annotations

from scipy.optimize import brentq
from scipy.special import ncfdtr, stdtrit

from oblivio.bench.estimate import LEVEL

CHANCE = 0.8
"""How likely a difference is to be seen that counts as detectable."""


def power(effect: float, n: int, level: float = 1 - LEVEL) -> float:
    """How likely a paired t test is to find a difference.

    Args:
        effect: The true difference in standard deviations of the paired differences, δ / σ.
        n: Pairs, which here are seeds; at least 2.
        level: The test's α.

    Returns:
        A probability, at least α.

    Example:
        >>> round(power(0.5, 34), 3)
        0.808
    """
    critical = float(stdtrit(n - 1, 1 - level / 2))
    found = float(1 - ncfdtr(1, n - 1, n * effect**2, critical**2))
    return max(level, found)  # scipy gives 0 where the noncentrality is next to nothing


def detectable(spread: float, n: int, level: float = 1 - LEVEL, chance: float = CHANCE) -> float:
    """The smallest difference that would have been found with a given probability.

    Args:
        spread: The standard deviation σ of the paired differences.
        n: Pairs; at least 2.
        level: The test's α.
        chance: The probability.

    Returns:
        A difference in the spread's unit.

    Example:
        >>> round(detectable(1.0, 5), 2)
        1.68
    """
    enough = 1.0
    while power(enough, n, level) < chance:
        enough *= 2
    found = brentq(lambda effect: power(effect, n, level) - chance, 0.0, enough)
    return spread * float(found)  # pyright: ignore[reportArgumentType]  # its other form is off


def needed(
    spread: float, difference: float = 1.0, level: float = 1 - LEVEL, chance: float = CHANCE
) -> int:
    """How many pairs it takes to find a difference with a given probability.

    Args:
        spread: The standard deviation σ of the paired differences.
        difference: The one to be found, in the spread's unit; above 0.
        level: The test's α.
        chance: The probability.

    Returns:
        A number of seeds, at least 2.

    Example:
        >>> needed(2.0, 1.0)
        34
    """
    if spread <= 0:
        return 2
    effect = difference / spread
    low, high = 1, 2
    while power(effect, high, level) < chance:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, level) >= chance else (middle, high)
    return high
