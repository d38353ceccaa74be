"""Trends: which concerns are common to the regions, which belong to some, and how that changes.

Source: domain.md §2.5. Prevalence, mean, breadth and lift are exact fractions; only logarithms are floating point.
Numbers are given unrounded; whoever shows them rounds to four decimals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from math import fsum, hypot, log

METHOD = "regional-trends/1"


class TrendClass(StrEnum):
    """Where a concern lives."""

    COMMON = "common"
    UNEVEN = "uneven"
    UNIQUE = "unique"
    SHARED_SUBSET = "shared-subset"
    SCATTERED = "scattered"
    INSUFFICIENT = "insufficient"


class Direction(StrEnum):
    """How a region's prevalence moved between two periods."""

    RISING = "rising"
    FALLING = "falling"
    STEADY = "steady"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the classes begin; a charter may set other values."""

    common_breadth: Fraction = Fraction(4, 5)
    common_mean: Fraction = Fraction(2, 5)
    common_evenness: float = 0.97
    stressed_lift: Fraction = Fraction(3, 2)
    stressed_organisations: int = 2
    uneven_mean_outside: Fraction = Fraction(3, 10)
    organisations_per_region: int = 2
    regions: int = 3
    change: Fraction = Fraction(15, 100)
    change_organisations: int = 3


@dataclass(frozen=True, slots=True)
class Trend:
    """One concern over the eligible regions. Measures are None and maps empty where data are insufficient."""

    subject: str
    counts: dict[str, int]
    kind: TrendClass
    prevalence: dict[str, Fraction] = field(default_factory=dict)
    mean: Fraction | None = None
    commonality: float | None = None
    breadth: Fraction | None = None
    lift: dict[str, Fraction] = field(default_factory=dict)
    regions: tuple[str, ...] = ()


def eligible_regions(organisations: Mapping[str, int], thresholds: Thresholds) -> tuple[str, ...]:
    """Regions with enough contributing organisations to say anything, in the order given."""
    return tuple(region for region, n in organisations.items() if n >= thresholds.organisations_per_region)


def prevalence(k: int, n: int) -> Fraction:
    """(k + ½) / (n + 1): the share of organisations concerned, smoothed after Jeffreys so that 1 of 1 is not all."""
    return Fraction(2 * k + 1, 2 * (n + 1))


def trend(subject: str, organisations: Mapping[str, int], counts: Mapping[str, int], thresholds: Thresholds) -> Trend:
    """The trend of one concern: `counts` of the contributing `organisations` in each region raised it.

    Errors: ValueError when more organisations are concerned than contributed.
    """
    shown = {region: counts.get(region, 0) for region in organisations}
    if any(not 0 <= shown[region] <= n for region, n in organisations.items()):
        raise ValueError("more organisations are concerned than contributed")
    regions = eligible_regions(organisations, thresholds)
    if len(regions) < thresholds.regions:
        return Trend(subject, shown, TrendClass.INSUFFICIENT)
    p = {region: prevalence(shown[region], organisations[region]) for region in regions}
    whole = sum(p.values(), Fraction(0))
    mean = whole / len(regions)
    evenness = -fsum(float(share) * log(share) for share in (value / whole for value in p.values())) / log(len(regions))
    breadth = Fraction(sum(shown[region] >= 1 for region in regions), len(regions))
    lift = {region: value / mean for region, value in p.items()}
    kind, stressed = _classify(shown, p, mean, evenness, breadth, lift, thresholds)
    return Trend(subject, shown, kind, p, mean, evenness, breadth, lift, stressed)


def _classify(
    counts: Mapping[str, int],
    p: Mapping[str, Fraction],
    mean: Fraction,
    evenness: float,
    breadth: Fraction,
    lift: Mapping[str, Fraction],
    thresholds: Thresholds,
) -> tuple[TrendClass, tuple[str, ...]]:
    if (
        breadth >= thresholds.common_breadth
        and mean >= thresholds.common_mean
        and evenness >= thresholds.common_evenness
    ):
        return TrendClass.COMMON, ()
    stressed = tuple(
        region
        for region, value in lift.items()
        if value >= thresholds.stressed_lift and counts[region] >= thresholds.stressed_organisations
    )
    if not stressed:
        return TrendClass.SCATTERED, ()
    outside = [value for region, value in p.items() if region not in stressed]
    if outside and sum(outside, Fraction(0)) / len(outside) >= thresholds.uneven_mean_outside:
        return TrendClass.UNEVEN, stressed
    return (TrendClass.UNIQUE if len(stressed) == 1 else TrendClass.SHARED_SUBSET), stressed


def trends(
    organisations: Mapping[str, int], counts: Mapping[str, Mapping[str, int]], thresholds: Thresholds
) -> list[Trend]:
    """The trend of every concern in `counts` (concern → region → organisations). Errors: as `trend`."""
    return [trend(subject, organisations, by_region, thresholds) for subject, by_region in counts.items()]


def similarity(found: list[Trend]) -> dict[str, dict[str, float | None]]:
    """Likeness of regions: cosine of their vectors of ln lift over all concerns; 1 alike, −1 opposite.

    None where a region's vector is zero. Regions that are not eligible do not appear.
    """
    told = [item for item in found if item.kind is not TrendClass.INSUFFICIENT]
    if not told:
        return {}
    vectors = {region: [log(item.lift[region]) for item in told] for region in told[0].lift}
    lengths = {region: hypot(*vector) for region, vector in vectors.items()}

    def cosine(first: str, second: str) -> float | None:
        if lengths[first] == 0 or lengths[second] == 0:
            return None
        if first == second:
            return 1.0
        product = fsum(x * y for x, y in zip(vectors[first], vectors[second], strict=True))
        return max(-1.0, min(1.0, product / (lengths[first] * lengths[second])))

    return {first: {second: cosine(first, second) for second in vectors} for first in vectors}


@dataclass(frozen=True, slots=True)
class Change:
    """A region's prevalence of one concern now less that before."""

    difference: Fraction | None
    direction: Direction


def change(
    before: Trend,
    after: Trend,
    organisations_before: Mapping[str, int],
    organisations_after: Mapping[str, int],
    thresholds: Thresholds,
) -> dict[str, Change]:
    """How one concern moved in each region of the later period; `insufficient` where either period has too few."""
    moved: dict[str, Change] = {}
    for region in after.counts:
        fewest = min(organisations_before.get(region, 0), organisations_after.get(region, 0))
        if fewest < thresholds.change_organisations:
            moved[region] = Change(None, Direction.INSUFFICIENT)
            continue
        difference = prevalence(after.counts[region], organisations_after[region]) - prevalence(
            before.counts.get(region, 0), organisations_before[region]
        )
        if abs(difference) < thresholds.change:
            direction = Direction.STEADY
        else:
            direction = Direction.RISING if difference > 0 else Direction.FALLING
        moved[region] = Change(difference, direction)
    return moved
