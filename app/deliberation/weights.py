"""Weights: what one ballot counts, so that a region's size decides as much as the charter says, and no more."""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from math import lcm

TWELVE_PLACES = Decimal("1e-12")
PRECISE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def size_to_the(count: int, alpha: Decimal) -> Fraction:
    """`count` to the power of `alpha`: exact for 0 and 1, else rounded to 12 decimals and exact from there on.

    So anyone gets the same weights with any tool. Source: design rules C4.
    """
    if alpha == 0:
        return Fraction(1)
    if alpha == 1:
        return Fraction(count)
    return Fraction(PRECISE.power(Decimal(count), alpha).quantize(TWELVE_PLACES, context=PRECISE))


def region_masses(ballots_cast: Mapping[str, int], alpha: Decimal, q: int) -> dict[str, Fraction]:
    """Share of the whole that each region holds: M_r ∝ n_r^α · min(1, n_r/q), adding up to 1.

    Regions without ballots hold nothing and are left out. Errors: ValueError when α is outside 0…1 or q below 1.
    Source: domain.md §2.4.
    """
    if not 0 <= alpha <= 1 or q < 1:
        raise ValueError("alpha lies in 0…1 and q is at least 1")
    raw = {
        region: size_to_the(count, alpha) * min(Fraction(1), Fraction(count, q))
        for region, count in sorted(ballots_cast.items())
        if count > 0
    }
    whole = sum(raw.values(), Fraction(0))
    return {region: mass / whole for region, mass in raw.items()}


def ballot_weights(ballots_cast: Mapping[str, int], alpha: Decimal, q: int) -> dict[str, Fraction]:
    """What one ballot counts in each region: w = M_r / n_r. Errors: as `region_masses`."""
    masses = region_masses(ballots_cast, alpha, q)
    return {region: mass / ballots_cast[region] for region, mass in masses.items()}


def in_whole_numbers(weights: Mapping[str, Fraction]) -> tuple[dict[str, int], int]:
    """The same weights as integers, and the denominator they share: sums stay exact and fast."""
    scale = lcm(*(weight.denominator for weight in weights.values()))
    return {region: int(weight * scale) for region, weight in weights.items()}, scale
