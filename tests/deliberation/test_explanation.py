"""Explanations say what decides, with its numbers, and hide no tie and no cycle."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given, settings

from app.deliberation.aggregation import RankingBallot, aggregate
from app.deliberation.explanation import Ground, explain, in_words
from tests.deliberation.test_aggregation import ballot_lists
from tests.deliberation.vectors import ISSUES, ballots

NAMES = {issue: issue for issue in "ABCDEF"}


def texts(alpha: int, q: int) -> list[str]:
    return [in_words(item, NAMES) for item in explain(aggregate(ISSUES, ballots(), Decimal(alpha), q))]


def test_a_direct_majority() -> None:
    assert texts(0, 2)[0] == (
        "B stands above C because ballots with 7/9 (77.8 %) of the weight put B before C,"
        " 2/9 (22.2 %) the other way round."
    )


def test_a_majority_with_a_weaker_chain_back_names_the_chain() -> None:
    assert texts(0, 2)[2] == (
        "D stands above A because ballots with 2/3 (66.7 %) of the weight put D before A,"
        " 1/3 (33.3 %) the other way round. There is a chain of majorities back (A → E → D),"
        " but its weakest link is only 5/9 (55.6 %)."
    )


def of(*lines: str) -> list[str]:
    """The explanations of strict ballots of one region, one letter an issue."""
    box = [RankingBallot("AFR", tuple((issue,) for issue in line)) for line in lines]
    return [in_words(item, NAMES) for item in explain(aggregate(lines[0], box, Decimal(0), 1))]


def test_a_chain_against_the_direct_majority_says_so() -> None:
    assert (
        "C stands above D because of a chain of majorities: C → B → D; its weakest link has 2/3 (66.7 %) of the weight,"
        " while the strongest chain back (D → C) has 5/9 (55.6 %). Compared directly, ballots with 4/9 (44.4 %) of the"
        " weight put C before D, 5/9 (55.6 %) the other way round."
    ) in of("DBAC", "CBDA", "CBDA", "BADC", "ACBD", "DCBA", "ADCB", "BADC", "ACBD")


def test_a_chain_with_no_way_back() -> None:
    assert (
        "D stands above C because of a chain of majorities: D → A → C; its weakest link has 2/3 (66.7 %) of the weight,"
        " while no chain leads back. Compared directly, ballots with 1/2 (50.0 %) of the weight put D before C,"
        " 1/2 (50.0 %) the other way round."
    ) in of("DABC", "ABCD", "BCDA", "DACB", "BDCA", "ACBD")


def test_neighbours_that_do_not_beat_each_other_stand_by_what_beats_them() -> None:
    assert (
        "Between A and D neither chain of majorities is the stronger (both 2/3 (66.7 %)); A stands above because fewer"
        " issues beat it. D is beaten by C. Compared directly, ballots with 1/3 (33.3 %) of the weight put A before D,"
        " 2/3 (66.7 %) the other way round."
    ) in of("CDAB", "BCDA", "ABCD")


def test_borda_decides_the_display_of_equal_ranks() -> None:
    assert (
        "Between C and A neither chain of majorities is the stronger (there is none), so they share a rank."
        " C is shown first because its balanced Borda score is higher: 5/4 against 1."
    ) in of("CAB", "BAC", "ACB", "CBA")


def test_a_tie_is_called_a_tie() -> None:
    assert texts(0, 1)[2:] == [
        "Between A and D neither chain of majorities is the stronger (both 3/5 (60.0 %)), and their balanced Borda"
        " scores are equal (7/5): A and D are tied, and shown so.",
        "Between D and E neither chain of majorities is the stronger (both 3/5 (60.0 %)), and their balanced Borda"
        " scores are equal (7/5): D and E are tied, and shown so.",
    ]


@settings(max_examples=200, deadline=None)
@given(ballot_lists)
def test_every_explanation_agrees_with_the_matrices(given_ballots: list[RankingBallot]) -> None:
    ranking = aggregate("ABCDEF", given_ballots, Decimal(0), 2)
    for item in explain(ranking):
        a, b = ranking.issues.index(item.above), ranking.issues.index(item.below)
        decided = item.ground in (Ground.MAJORITY, Ground.CHAIN)
        assert decided == (item.forward > item.back)
        assert (item.ground in (Ground.BORDA, Ground.TIED)) == (ranking.ranks[a] == ranking.ranks[b])
        for chain, strength in ((item.chain, item.forward), (item.chain_back, item.back)):
            at = [ranking.issues.index(name) for name in chain]
            links = [ranking.pairwise[x][y] for x, y in pairwise(at)]
            assert ranking.share(min(links, default=0)) == strength
        assert item.ground is not Ground.BEATEN_BY_FEWER or len(item.beaten_by) == ranking.ranks[b] - 1
        assert in_words(item, NAMES)
