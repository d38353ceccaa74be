"""Endorsement: an issue is common when the balanced vote and most regions are for it; a regional one is never dropped.

Source: domain.md §2.4.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from app.deliberation.weights import ballot_weights

METHOD = "double-majority/1"


class Vote(StrEnum):
    """What a ballot of an endorsement round says on one issue; silence is an abstention."""

    YES = "yes"
    NO = "no"
    ABSTAIN = "abstain"


class Standing(StrEnum):
    """What an endorsement round found about an issue."""

    COMMON = "common"
    REGIONAL = "regional"
    NOT_ENDORSED = "not-endorsed"


@dataclass(frozen=True, slots=True)
class EndorsementBallot:
    """One organisation's ballot: its region, and a vote on some of the issues."""

    region: str
    votes: Mapping[str, Vote]


@dataclass(frozen=True, slots=True)
class Endorsed:
    """What the votes say on one issue. `support` is None where nobody voted yes or no."""

    issue: str
    support: Fraction | None
    plain_support: Fraction | None
    votes: dict[str, dict[Vote, int]]
    regions_for: tuple[str, ...]
    regions_voting: int
    regions_needed: int
    standing: Standing


def ballots_by_region(ballots: Iterable[EndorsementBallot]) -> dict[str, int]:
    """Ballots cast in each region, in the order of the region codes."""
    return dict(sorted(Counter(ballot.region for ballot in ballots).items()))


def endorse(
    issues: Iterable[str],
    ballots: Sequence[EndorsementBallot],
    alpha: Decimal,
    q: int,
    *,
    share_needed: Fraction = Fraction(1, 2),
    regions_share_needed: Fraction = Fraction(2, 3),
) -> list[Endorsed]:
    """What the ballots say on each issue, in the order of the ids.

    Common: balanced support of at least `share_needed`, and more yes than no in at least `regions_share_needed`
    (rounded up) of the regions where anybody voted yes or no on it. Otherwise, with more yes than no in some region:
    regional, to be annexed as an issue of those regions. Errors: ValueError for a vote on an issue not listed.
    """
    names = sorted(set(issues))
    ballots_cast = ballots_by_region(ballots)
    weights = ballot_weights(ballots_cast, alpha, q)
    counts: dict[str, dict[str, Counter[Vote]]] = {
        name: {region: Counter() for region in ballots_cast} for name in names
    }
    for ballot in ballots:
        if not counts.keys() >= ballot.votes.keys():
            raise ValueError("a ballot votes on an issue that is not listed")
        for name, vote in ballot.votes.items():
            counts[name][ballot.region][vote] += 1
    return [_standing(name, counts[name], ballots_cast, weights, share_needed, regions_share_needed) for name in names]


def _standing(
    name: str,
    counts: Mapping[str, Counter[Vote]],
    ballots_cast: Mapping[str, int],
    weights: Mapping[str, Fraction],
    share_needed: Fraction,
    regions_share_needed: Fraction,
) -> Endorsed:
    votes = {
        region: {
            Vote.YES: count[Vote.YES],
            Vote.NO: count[Vote.NO],
            Vote.ABSTAIN: ballots_cast[region] - count[Vote.YES] - count[Vote.NO],
        }
        for region, count in counts.items()
    }
    voting = [region for region, said in votes.items() if said[Vote.YES] + said[Vote.NO] > 0]
    regions_for = tuple(region for region in voting if votes[region][Vote.YES] > votes[region][Vote.NO])
    needed = -(-len(voting) * regions_share_needed.numerator // regions_share_needed.denominator)
    yes = sum((weights[region] * votes[region][Vote.YES] for region in voting), Fraction(0))
    no = sum((weights[region] * votes[region][Vote.NO] for region in voting), Fraction(0))
    support = yes / (yes + no) if voting else None
    plain_yes = sum(votes[region][Vote.YES] for region in voting)
    plain_no = sum(votes[region][Vote.NO] for region in voting)
    plain = Fraction(plain_yes, plain_yes + plain_no) if voting else None
    if support is not None and support >= share_needed and len(regions_for) >= needed:
        standing = Standing.COMMON
    else:
        standing = Standing.REGIONAL if regions_for else Standing.NOT_ENDORSED
    return Endorsed(name, support, plain, votes, regions_for, len(voting), needed, standing)
