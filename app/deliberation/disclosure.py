"""Disclosure control: what a count of few organisations would give away is not published.

A region with fewer than three contributing organisations is taken out *before* anything is computed. So no mean, no
class and no likeness in the public answer depends on a suppressed cell, and none can be solved for one: there is no
total to subtract from. Regions with none, one and two organisations look the same.
"""

from collections.abc import Mapping

LEAST_ORGANISATIONS = 3


def suppressed_regions(organisations: Mapping[str, int]) -> tuple[str, ...]:
    """Regions whose cells are not published."""
    return tuple(region for region, n in organisations.items() if n < LEAST_ORGANISATIONS)


def publishable(
    organisations: Mapping[str, int], counts: Mapping[str, Mapping[str, int]]
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """`organisations` and `counts` without the suppressed regions: all that a public answer may be computed from.

    A concern raised in suppressed regions only is left out, for its presence would tell of them.
    """
    shown = {region: n for region, n in organisations.items() if n >= LEAST_ORGANISATIONS}
    kept = {
        subject: {region: k for region, k in by_region.items() if region in shown}
        for subject, by_region in counts.items()
    }
    return shown, {subject: by_region for subject, by_region in kept.items() if any(by_region.values())}
