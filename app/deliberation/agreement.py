"""Agreement: how far a region's own order and the common order go together (Kendall's τ-b)."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from math import isqrt

from app.deliberation.weights import PRECISE, TWELVE_PLACES

Agreement = Fraction | Decimal | None
"""Exact where it is rational, else rounded to 12 decimals; None where one order ties everything."""


def kendall_tau_b(own: Sequence[int], common: Sequence[int]) -> Agreement:
    """τ-b of two rankings of the same things: 1 the same order, −1 the reverse, None when one of them says nothing.

    Source: M. G. Kendall, "The treatment of ties in ranking problems" (1945).
    """
    score = untied_own = untied_common = 0
    for a, b in combinations(range(len(own)), 2):
        first = (own[a] > own[b]) - (own[a] < own[b])
        second = (common[a] > common[b]) - (common[a] < common[b])
        score += first * second
        untied_own += first != 0
        untied_common += second != 0
    square = untied_own * untied_common
    if square == 0:
        return None
    if isqrt(square) ** 2 == square:
        return Fraction(score, isqrt(square))
    return PRECISE.divide(Decimal(score), PRECISE.sqrt(Decimal(square))).quantize(TWELVE_PLACES, context=PRECISE)
