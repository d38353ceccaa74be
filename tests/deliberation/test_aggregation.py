"""The ranking: every number of the worked example, and what holds for any ballots."""

import time
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.deliberation.aggregation import Ranking, RankingBallot, aggregate
from app.deliberation.weights import ballot_weights, region_masses
from tests.deliberation.vectors import ISSUES, VECTORS, ballots

REGIONS = ("AFR", "LAC", "EUR", "ASI", "MENA")


def order(ranking: Ranking) -> list[tuple[str, int, Fraction]]:
    return [(ranking.issues[a], ranking.ranks[a], ranking.borda[a]) for a in ranking.order]


@pytest.mark.parametrize("run", VECTORS["priority"]["runs"], ids=lambda run: f"alpha{run['alpha']}-q{run['q']}")
def test_worked_example_to_the_digit(run: dict[str, Any]) -> None:
    ranking = aggregate(ISSUES, ballots(), Decimal(run["alpha"]), run["q"])
    assert {region: str(weight) for region, weight in ranking.weights.items()} == run["weight_per_org"]
    assert {name: ranking.ranks[a] for a, name in enumerate(ranking.issues)} == run["rank"]
    assert {name: str(ranking.borda[a]) for a, name in enumerate(ranking.issues)} == run["borda"]
    for matrix, expected in ((ranking.pairwise, run["d"]), (ranking.paths, run["p"])):
        got = {
            x + y: str(ranking.share(matrix[a][b]))
            for a, x in enumerate(ranking.issues)
            for b, y in enumerate(ranking.issues)
            if a != b
        }
        assert got == expected


@pytest.mark.parametrize(
    ("alpha", "q", "expected", "dissent"),
    [
        (0, 2, {"AFR": "0", "LAC": "1", "EUR": "3/5", "ASI": "1/5", "MENA": "2/5"}, ()),
        (1, 1, {"AFR": "1", "LAC": "0", "EUR": "-2/5", "ASI": "-2/5", "MENA": "1/5"}, ("ASI", "EUR")),
    ],
)
def test_agreement_of_regions(alpha: int, q: int, expected: dict[str, str], dissent: tuple[str, ...]) -> None:
    ranking = aggregate(ISSUES, ballots(), Decimal(alpha), q)
    assert {region: str(tau) for region, tau in ranking.agreement.items()} == expected
    assert ranking.dissent == dissent


def test_a_tie_in_rank_and_borda_is_shown() -> None:
    ranking = aggregate(ISSUES, ballots(), Decimal(0), 1)
    assert order(ranking) == [
        ("B", 1, Fraction(16, 5)),
        ("C", 2, Fraction(13, 5)),
        ("A", 3, Fraction(7, 5)),
        ("D", 3, Fraction(7, 5)),
        ("E", 3, Fraction(7, 5)),
    ]
    assert [ranking.places[a] for a in ranking.order] == [1, 2, 3, 3, 3]


def test_equal_ranks_are_shown_by_borda_where_it_differs() -> None:
    """B and A beat each other once, B and C too; only A beats C."""
    lines = [RankingBallot("AFR", (("B",), ("A",), ("C",))), RankingBallot("AFR", (("A",), ("C",), ("B",)))]
    ranking = aggregate("ABC", lines, Decimal(0), 1)
    assert order(ranking) == [("A", 1, Fraction(3, 2)), ("B", 1, Fraction(1)), ("C", 2, Fraction(1, 2))]
    assert [ranking.places[a] for a in ranking.order] == [1, 2, 3]


def test_a_perfect_cycle_is_a_tie() -> None:
    lines = [RankingBallot("AFR", tuple((issue,) for issue in line)) for line in ("ABC", "BCA", "CAB")]
    ranking = aggregate("ABC", lines, Decimal(0), 1)
    assert ranking.ranks == [1, 1, 1]
    assert set(ranking.places.values()) == {1}


def test_other_exponents_are_rounded_to_twelve_decimals_and_exact_from_there() -> None:
    masses = region_masses({"AFR": 9, "LAC": 2, "EUR": 1}, Decimal("0.5"), 2)
    raw = {"AFR": Fraction(3), "LAC": Fraction(1414213562373, 10**12), "EUR": Fraction(1, 2)}
    assert masses == {region: mass / sum(raw.values()) for region, mass in raw.items()}
    assert sum(masses.values()) == 1


def test_a_region_below_q_holds_less() -> None:
    weights = ballot_weights({"AFR": 4, "MENA": 1}, Decimal(0), 2)
    assert weights == {"AFR": Fraction(1, 6), "MENA": Fraction(1, 3)}


@pytest.mark.parametrize(("alpha", "q"), [("-0.1", 2), ("1.1", 2), ("0", 0)])
def test_settings_out_of_range_are_refused(alpha: str, q: int) -> None:
    with pytest.raises(ValueError, match="alpha"):
        aggregate(ISSUES, ballots(), Decimal(alpha), q)


@pytest.mark.parametrize("tiers", [(("A",), ("A",)), (("A", "A"),), (("X",),)])
def test_an_issue_named_twice_or_unknown_is_refused(tiers: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match="twice"):
        aggregate(ISSUES, [RankingBallot("AFR", tiers)], Decimal(0), 2)


def test_without_ballots_everything_is_tied() -> None:
    ranking = aggregate(ISSUES, [], Decimal(0), 2)
    assert ranking.ranks == [1] * 5
    assert ranking.borda == [Fraction(0)] * 5
    assert ranking.agreement == {}
    assert aggregate([], [], Decimal(0), 2).order == ()


def test_a_region_that_ties_everything_has_no_agreement() -> None:
    ranking = aggregate("AB", [RankingBallot("AFR", (("A", "B"),)), RankingBallot("LAC", (("A",),))], Decimal(0), 1)
    assert ranking.agreement == {"AFR": None, "LAC": Fraction(1)}


def test_agreement_that_is_not_rational_is_a_rounded_decimal() -> None:
    lines = [RankingBallot("AFR", (("A",), ("B", "C"))), RankingBallot("LAC", (("A",), ("B",), ("C",)))]
    ranking = aggregate("ABC", lines, Decimal(0), 1)
    assert str(ranking.agreement["AFR"]) == "0.816496580928"


ballot_lists = st.lists(
    st.builds(
        lambda region, issues, cuts: RankingBallot(region, _cut(issues, cuts)),
        st.sampled_from(REGIONS),
        st.lists(st.sampled_from("ABCDEF"), unique=True),
        st.lists(st.booleans(), min_size=6, max_size=6),
    ),
    min_size=1,
    max_size=14,
)


def _cut(issues: list[str], cuts: list[bool]) -> tuple[tuple[str, ...], ...]:
    """Issues in tiers: a new tier where `cuts` says so."""
    tiers: list[list[str]] = []
    for issue, cut in zip(issues, cuts, strict=False):
        if cut or not tiers:
            tiers.append([])
        tiers[-1].append(issue)
    return tuple(tuple(tier) for tier in tiers)


@settings(max_examples=150, deadline=None)
@given(ballot_lists, st.integers(1, 3), st.randoms(use_true_random=False))
def test_order_of_input_is_irrelevant(given_ballots: list[RankingBallot], q: int, random: Random) -> None:
    shuffled = random.sample(given_ballots, len(given_ballots))
    turned = [RankingBallot(b.region, tuple(tuple(reversed(tier)) for tier in b.tiers)) for b in shuffled]
    assert aggregate("ABCDEF", given_ballots, Decimal(0), q) == aggregate("FEDCBA", turned, Decimal(0), q)


@settings(max_examples=150, deadline=None)
@given(ballot_lists, st.integers(2, 4), st.sampled_from(REGIONS))
def test_cloning_every_voter_of_a_region_changes_nothing(
    given_ballots: list[RankingBallot], times: int, region: str
) -> None:
    q = 1
    cloned = [ballot for ballot in given_ballots for _ in range(times if ballot.region == region else 1)]
    before, after = (aggregate("ABCDEF", some, Decimal(0), q) for some in (given_ballots, cloned))
    assert order(before) == order(after)
    assert before.agreement == after.agreement


@settings(max_examples=100, deadline=None)
@given(ballot_lists, ballot_lists)
def test_a_withdrawn_ballot_leaves_no_trace(given_ballots: list[RankingBallot], more: list[RankingBallot]) -> None:
    box = [*given_ballots, *more]
    aggregate("ABCDEF", box, Decimal(0), 2)
    for ballot in more:
        box.remove(ballot)
    assert sorted(map(repr, box)) == sorted(map(repr, given_ballots))
    assert aggregate("ABCDEF", box, Decimal(0), 2) == aggregate("ABCDEF", given_ballots, Decimal(0), 2)


@settings(max_examples=200, deadline=None)
@given(ballot_lists, st.sampled_from("ABCDEF"), st.data())
def test_raising_an_issue_never_lowers_it(given_ballots: list[RankingBallot], issue: str, data: st.DataObject) -> None:
    raised = [_raised(ballot, issue, data) if data.draw(st.booleans()) else ballot for ballot in given_ballots]
    for alpha in (Decimal(0), Decimal(1)):
        before, after = (aggregate("ABCDEF", some, alpha, 2) for some in (given_ballots, raised))
        position = before.issues.index(issue)
        assert after.ranks[position] <= before.ranks[position]


def _raised(ballot: RankingBallot, issue: str, data: st.DataObject) -> RankingBallot:
    """The ballot with `issue` alone in a tier somewhere above where it stood; the others keep their order."""
    at = next((n for n, tier in enumerate(ballot.tiers) if issue in tier), len(ballot.tiers))
    rest = [tuple(other for other in tier if other != issue) for tier in ballot.tiers]
    rest.insert(data.draw(st.integers(0, at)), (issue,))
    return RankingBallot(ballot.region, tuple(tier for tier in rest if tier))


def test_sixty_issues_and_five_hundred_organisations_in_half_a_second() -> None:
    random = Random(11)
    issues = [f"issue-{n:02}" for n in range(60)]
    box = [
        RankingBallot(random.choice(REGIONS), tuple((name,) for name in random.sample(issues, 60))) for _ in range(500)
    ]
    fastest = min(_seconds(issues, box) for _ in range(3))
    assert fastest < 0.5


def _seconds(issues: list[str], box: list[RankingBallot]) -> float:
    start = time.perf_counter()
    aggregate(issues, box, Decimal("0.5"), 2)
    return time.perf_counter() - start
