"""Outcomes: the result of a round as the JSON that is sealed, and what of it each reader may get.

Fractions are texts (`"13/9"`, `"1"`). Explanations hold `{id}` where an issue is named; titles are put in when read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from app.deliberation import aggregation, double_majority
from app.deliberation.aggregation import Ranking, RankingBallot, aggregate
from app.deliberation.charter_settings import CharterSettings
from app.deliberation.double_majority import Endorsed, EndorsementBallot, ballots_by_region, endorse
from app.deliberation.explanation import Explanation, explain, in_words
from app.deliberation.quorum import quorum
from app.deliberation.weights import ballot_weights

LEAST_ANONYMOUS = 3
"""Ballots every voting region needs before an anonymous round shows more than ranks and classes."""

Outcome = dict[str, Any]
_NAMED = re.compile(r"\{([0-9a-f-]{36})\}")


def ranking_outcome(
    issues: Sequence[str], ballots: Sequence[RankingBallot], settings: CharterSettings, alpha: Decimal, q: int
) -> Outcome:
    """The whole result of a ranking round under these weights."""
    ranking = aggregate(issues, ballots, alpha, q)
    names = {issue: f"{{{issue}}}" for issue in ranking.issues}
    return {
        "method": aggregation.METHOD,
        "ballots": len(ballots),
        "ballots_by_region": ranking.ballots_cast,
        "weights": {region: str(weight) for region, weight in ranking.weights.items()},
        "ranks": [
            {
                "issue_id": ranking.issues[a],
                "rank": ranking.ranks[a],
                "place": ranking.places[a],
                "borda": str(ranking.borda[a]),
            }
            for a in ranking.order
        ],
        "pairwise": _matrix(ranking, ranking.pairwise),
        "paths": _matrix(ranking, ranking.paths),
        "agreement": {region: None if tau is None else str(tau) for region, tau in ranking.agreement.items()},
        "dissent": [
            {
                "region": region,
                "note": f"The order of {region} alone runs against the common one (agreement"
                f" {ranking.agreement[region]}).",
            }
            for region in ranking.dissent
        ],
        "explanations": [_explained(item, names) for item in explain(ranking)],
        "quorum": _quorum(ranking.ballots_cast, settings, q),
    }


def _matrix(ranking: Ranking, numbers: aggregation.Matrix) -> dict[str, dict[str, str]]:
    written: dict[int, str] = {}

    def share(number: int) -> str:
        if number not in written:
            written[number] = str(ranking.share(number))
        return written[number]

    return {
        first: {second: share(numbers[a][b]) for b, second in enumerate(ranking.issues) if b != a}
        for a, first in enumerate(ranking.issues)
    }


def _explained(item: Explanation, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "above": item.above,
        "below": item.below,
        "ground": item.ground.value,
        "for": str(item.for_share),
        "against": str(item.against_share),
        "strongest_path": str(item.forward),
        "strongest_path_back": str(item.back),
        "chain": list(item.chain),
        "chain_back": list(item.chain_back),
        "text": in_words(item, names),
    }


def endorsement_outcome(
    issues: Sequence[str], ballots: Sequence[EndorsementBallot], settings: CharterSettings, alpha: Decimal, q: int
) -> Outcome:
    """The whole result of an endorsement round under these weights."""
    found = endorse(
        issues,
        ballots,
        alpha,
        q,
        share_needed=Fraction(settings.endorsement_share),
        regions_share_needed=Fraction(settings.endorsement_regions_share),
    )
    cast = ballots_by_region(ballots)
    weights = ballot_weights(cast, alpha, q)
    return {
        "method": double_majority.METHOD,
        "ballots": len(ballots),
        "ballots_by_region": cast,
        "weights": {region: str(weight) for region, weight in weights.items()},
        "classes": [_class(item) for item in found],
        "quorum": _quorum(cast, settings, q),
    }


def _class(item: Endorsed) -> dict[str, Any]:
    return {
        "issue_id": item.issue,
        "class": item.standing.value,
        "support": None if item.support is None else str(item.support),
        "plain_support": None if item.plain_support is None else str(item.plain_support),
        "regions_for": list(item.regions_for),
        "regions_voting": item.regions_voting,
        "regions_needed": item.regions_needed,
        "votes": {region: {vote.value: n for vote, n in said.items()} for region, said in item.votes.items()},
    }


def _quorum(cast: Mapping[str, int], settings: CharterSettings, q: int) -> dict[str, Any]:
    found = quorum(cast, regions_needed=settings.quorum_regions, voters_needed_per_region=q)
    return {**asdict(found), "regions_reaching": list(found.regions_reaching)}


@dataclass(frozen=True, slots=True)
class Access:
    """What a reader gets of a closed round: the numbers behind the ranks, the ballots, the names on them.

    Whoever has the ballots may simulate with them; nobody else may, because a few simulations would give them away.
    """

    numbers: bool
    ballots: bool
    names: bool


def access(ballot_display: str, *, is_member: bool, ballots_in_smallest_region: int) -> Access:
    """The display a round was opened with, applied to a reader. Source: design rules C1."""
    if not is_member:
        return Access(numbers=False, ballots=False, names=False)
    if ballot_display == "open":
        return Access(numbers=True, ballots=True, names=True)
    enough = ballots_in_smallest_region >= LEAST_ANONYMOUS
    return Access(numbers=enough, ballots=enough, names=False)


def reduced(outcome: Outcome) -> Outcome:
    """Only ranks, classes, the number of ballots and whether there was quorum."""
    shown = {name: outcome[name] for name in ("method", "ballots")}
    if "ranks" in outcome:
        shown["ranks"] = [{**item, "borda": None} for item in outcome["ranks"]]
    else:
        shown["classes"] = [{name: item[name] for name in ("issue_id", "class")} for item in outcome["classes"]]
    told = ("met", "regions_needed", "voters_needed_per_region")
    return {**shown, "quorum": {name: outcome["quorum"][name] for name in told}}


def without_hidden(outcome: Outcome, titles: Mapping[str, str]) -> Outcome:
    """The outcome with titles put in, less the issues `titles` does not know: those this reader may not see."""

    def named(found: re.Match[str]) -> str:
        return f"“{titles[found[1]]}”" if found[1] in titles else "another issue"

    shown = dict(outcome)
    for name in ("ranks", "classes"):
        if name in shown:
            shown[name] = [item for item in shown[name] if item["issue_id"] in titles]
    for name in ("pairwise", "paths"):
        if name in shown:
            shown[name] = {
                first: {second: value for second, value in row.items() if second in titles}
                for first, row in shown[name].items()
                if first in titles
            }
    if "explanations" in shown:
        shown["explanations"] = [
            {
                **item,
                "chain": [issue for issue in item["chain"] if issue in titles],
                "chain_back": [issue for issue in item["chain_back"] if issue in titles],
                "text": _NAMED.sub(named, item["text"]),
            }
            for item in shown["explanations"]
            if item["above"] in titles and item["below"] in titles
        ]
    return shown
