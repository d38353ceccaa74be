"""The ranking against a second one, written another way: every simple path is walked, all in fractions.

Source of the definition: M. Schulze (2011), section 2.2; nothing of `app.deliberation` is used on this side.
"""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise, permutations
from random import Random

import pytest

from app.deliberation.aggregation import RankingBallot, aggregate

Profile = list[tuple[str, dict[str, int]]]


def path_strength(beats: dict[tuple[str, str], Fraction], names: list[str], start: str, end: str) -> Fraction:
    """The best, over every simple path from start to end, of its weakest link."""
    between = [name for name in names if name not in (start, end)]
    best = Fraction(0)
    for length in range(len(between) + 1):
        for middle in permutations(between, length):
            stops = [start, *middle, end]
            weakest = min(beats[pair] for pair in pairwise(stops))
            best = max(best, weakest)
    return best


def oracle(
    names: list[str], profile: Profile, equal_regions: bool, q: int
) -> tuple[dict[str, int], dict[str, Fraction]]:
    """Ranks and Borda scores of a profile: each voter a region and a level (0 is best) for each issue."""
    voters = {region: sum(1 for other, _ in profile if other == region) for region, _ in profile}
    mass = {r: (1 if equal_regions else n) * Fraction(min(n, q), q) for r, n in voters.items()}
    weight = {r: mass[r] / sum(mass.values()) / voters[r] for r in voters}
    prefers = {
        (x, y): sum((weight[region] for region, level in profile if level[x] < level[y]), Fraction(0))
        for x, y in permutations(names, 2)
    }
    beats = {(x, y): d if d > prefers[y, x] else Fraction(0) for (x, y), d in prefers.items()}
    path = {(x, y): path_strength(beats, names, x, y) for x, y in permutations(names, 2)}
    ranks = {x: 1 + len([y for y in names if y != x and path[y, x] > path[x, y]]) for x in names}
    borda = {
        x: sum(
            (
                weight[region] * (Fraction(1) if level[x] < level[y] else Fraction(level[x] == level[y], 2))
                for region, level in profile
                for y in names
                if y != x
            ),
            Fraction(0),
        )
        for x in names
    }
    return ranks, borda


def random_profile(random: Random, names: list[str]) -> Profile:
    """1–12 voters of 1–5 regions with ties, and some issues left unlisted."""
    regions = [f"R{n}" for n in range(random.randint(1, 5))]
    return [
        (random.choice(regions), {name: random.choice([0, 1, 2, 3, 9]) for name in names})
        for _ in range(random.randint(1, 12))
    ]


def as_ballot(region: str, level: dict[str, int]) -> RankingBallot:
    """The voter's ballot; level 9 stands for an issue the ballot does not list."""
    listed = sorted({value for value in level.values() if value != 9})
    return RankingBallot(region, tuple(tuple(n for n, at in level.items() if at == value) for value in listed))


@pytest.mark.parametrize("block", range(10))
def test_fifty_random_profiles_agree(block: int) -> None:
    random = Random(block)
    for _ in range(50):
        names = list("ABCDE"[: random.randint(2, 5)])
        profile = random_profile(random, names)
        equal, q = random.random() < 0.5, random.randint(1, 3)
        ranking = aggregate(names, [as_ballot(*voter) for voter in profile], Decimal(0 if equal else 1), q)
        ranks, borda = oracle(names, profile, equal, q)
        assert dict(zip(ranking.issues, ranking.ranks, strict=True)) == ranks
        assert dict(zip(ranking.issues, ranking.borda, strict=True)) == borda
