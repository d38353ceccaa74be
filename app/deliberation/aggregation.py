"""Aggregation: a region-balanced Schulze ranking of issues from ballots with ties, in exact arithmetic.

Source: domain.md §2.4; M. Schulze, "A new monotonic, clone-independent, reversal symmetric, and Condorcet-consistent
single-winner election method" (2011). All numbers are integers over one common denominator until they are shown.

Pairwise sums are taken for all rivals of an issue at once: a row of the matrix is one long integer with a field of
fixed width for each rival, so that adding a ballot costs one addition an issue, not one a pair.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property

from app.deliberation.agreement import Agreement, kendall_tau_b
from app.deliberation.weights import ballot_weights, in_whole_numbers

METHOD = "region-balanced-schulze/1"

Matrix = list[list[int]]


@dataclass(frozen=True, slots=True)
class RankingBallot:
    """One organisation's ballot: its region, and tiers of issues from most to least urgent.

    Issues in one tier are tied; issues in no tier share the last place.
    """

    region: str
    tiers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Ranking:
    """A result: matrices are indexed by the position of an issue in `issues` (sorted) and count in `1/scale`."""

    issues: tuple[str, ...]
    ballots_cast: dict[str, int]
    weights: dict[str, Fraction]
    scale: int
    pairwise: Matrix
    paths: Matrix
    ranks: list[int]
    borda: list[Fraction]
    agreement: dict[str, Agreement]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Positions in the order of display: by rank, equal ranks by weighted Borda, what is still equal by id."""
        return tuple(sorted(range(len(self.issues)), key=lambda a: (self.ranks[a], -self.borda[a], self.issues[a])))

    @cached_property
    def places(self) -> dict[int, int]:
        """Place in the display of each position; shared only where rank and Borda are both equal."""
        places: dict[int, int] = {}
        for index, a in enumerate(self.order):
            before = self.order[index - 1] if index else None
            tied = before is not None and (self.ranks[a], self.borda[a]) == (self.ranks[before], self.borda[before])
            places[a] = places[before] if tied and before is not None else index + 1
        return places

    @cached_property
    def dissent(self) -> tuple[str, ...]:
        """Regions whose own order runs against the common one (τ-b below 0)."""
        return tuple(region for region, tau in self.agreement.items() if tau is not None and tau < 0)

    def share(self, number: int) -> Fraction:
        """A number of the matrices as a share of all weight."""
        return Fraction(number, self.scale)


def aggregate(issues: Iterable[str], ballots: Sequence[RankingBallot], alpha: Decimal, q: int) -> Ranking:
    """The ranking of `issues` by `ballots`; the order of either does not matter.

    Without ballots everything is tied. Errors: ValueError for an issue that is not to be ranked, one named twice on a
    ballot, or settings out of range.
    """
    names = tuple(sorted(set(issues)))
    ballots_cast = dict(sorted(Counter(ballot.region for ballot in ballots).items()))
    weights = ballot_weights(ballots_cast, alpha, q)
    whole, scale = in_whole_numbers(weights)
    width = scale.bit_length() + 1
    regional = _packed_rows(names, ballots, width)
    common = [0] * len(names)
    agreement: dict[str, Agreement] = {}
    for region, rows in regional.items():
        for a, row in enumerate(rows):
            common[a] += whole[region] * row
    pairwise = _unpacked(common, width)
    paths = strongest_paths(pairwise)
    ranks = ranks_of(paths)
    for region, rows in sorted(regional.items()):
        agreement[region] = kendall_tau_b(ranks_of(strongest_paths(_unpacked(rows, width))), ranks)
    total = scale if ballots else 0
    borda = [Fraction(points, 2 * scale) for points in _double_borda(pairwise, total)]
    return Ranking(names, ballots_cast, weights, scale, pairwise, paths, ranks, borda, agreement)


def _packed_rows(names: tuple[str, ...], ballots: Iterable[RankingBallot], width: int) -> dict[str, list[int]]:
    """For each region, for each issue, one integer: in field b the number of ballots that put it above issue b."""
    position = {name: index for index, name in enumerate(names)}
    fields = [1 << (index * width) for index in range(len(names))]
    regional: dict[str, list[int]] = defaultdict(lambda: [0] * len(names))
    for ballot, times in Counter(ballots).items():
        rows = regional[ballot.region]
        listed = [[position[name] for name in tier if name in position] for tier in ballot.tiers]
        unlisted = set(range(len(names))).difference(*listed)
        if sum(map(len, ballot.tiers)) != len(names) - len(unlisted):
            raise ValueError("a ballot names an issue twice, or one that is not to be ranked")
        below = 0
        for places in (list(unlisted), *reversed(listed)):
            joining = 0
            for a in places:
                rows[a] += below
                joining += fields[a]
            below += joining * times
    return regional


def _unpacked(rows: Sequence[int], width: int) -> Matrix:
    field = (1 << width) - 1
    return [[row >> (b * width) & field for b in range(len(rows))] for row in rows]


def _double_borda(pairwise: Matrix, total: int) -> list[int]:
    """Twice the weighted Borda score: 2·(weight of those below) + weight of those tied, over all rivals."""
    count = len(pairwise)
    return [sum(total + pairwise[a][b] - pairwise[b][a] for b in range(count) if b != a) for a in range(count)]


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def strongest_paths(pairwise: Matrix) -> Matrix:
    """p(a, b): the strength of the strongest chain of majorities from a to b, 0 where there is none.

    A majority has the weight of its winners, a chain that of its weakest link. Links are laid from the strongest
    down; the link that first makes b reachable from a is the weakest of the best chain, so every pair is set once.
    """
    count = len(pairwise)
    links = sorted(
        (
            (pairwise[a][b], a, b)
            for a in range(count)
            for b in range(count)
            if a != b and pairwise[a][b] > pairwise[b][a]
        ),
        reverse=True,
    )
    paths = [[0] * count for _ in range(count)]
    reached = [1 << a for a in range(count)]
    reaching = [1 << a for a in range(count)]
    for strength, a, b in links:
        if reached[a] >> b & 1:
            continue
        beyond = reached[b]
        for x in _bits(reaching[a]):
            new = beyond & ~reached[x]
            reached[x] |= new
            for y in _bits(new):
                paths[x][y] = strength
                reaching[y] |= 1 << x
    return paths


def ranks_of(paths: Matrix) -> list[int]:
    """Rank of each issue: 1 + the number of issues with a stronger chain to it than it has to them."""
    count = len(paths)
    return [1 + sum(paths[b][a] > paths[a][b] for b in range(count)) for a in range(count)]
