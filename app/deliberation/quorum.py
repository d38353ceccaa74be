"""Quorum: a result may be adopted only when enough regions took part with enough voters each."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quorum:
    """Whether enough regions had enough voters. Source: domain.md §2.4."""

    met: bool
    regions_needed: int
    voters_needed_per_region: int
    regions_reaching: tuple[str, ...]


def quorum(ballots_cast: Mapping[str, int], *, regions_needed: int = 3, voters_needed_per_region: int = 2) -> Quorum:
    """Whether at least `regions_needed` regions cast at least `voters_needed_per_region` ballots each."""
    reaching = tuple(sorted(region for region, count in ballots_cast.items() if count >= voters_needed_per_region))
    return Quorum(len(reaching) >= regions_needed, regions_needed, voters_needed_per_region, reaching)
