"""Endorsement: both majorities, annexes, abstentions, quorum."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deliberation.double_majority import EndorsementBallot, Standing, Vote, endorse
from app.deliberation.quorum import quorum

VOTERS = {"AFR": (9, 9), "LAC": (1, 3), "EUR": (0, 2), "ASI": (1, 2), "MENA": (0, 1)}
"""Region → (yes votes for X, voters), as in the worked example."""


def worked_example() -> list[EndorsementBallot]:
    return [
        EndorsementBallot(region, {"X": Vote.YES if n < yes else Vote.NO})
        for region, (yes, voters) in VOTERS.items()
        for n in range(voters)
    ]


def test_worked_example_is_an_issue_of_one_region() -> None:
    (balanced,) = endorse(["X"], worked_example(), Decimal(0), 2)
    assert balanced.support == Fraction(11, 27)
    assert balanced.plain_support == Fraction(11, 17)
    assert (balanced.regions_for, balanced.regions_voting, balanced.regions_needed) == (("AFR",), 5, 4)
    assert balanced.standing is Standing.REGIONAL


def test_one_organisation_one_vote_still_needs_most_regions() -> None:
    (plain,) = endorse(["X"], worked_example(), Decimal(1), 1)
    assert plain.support == Fraction(11, 17)
    assert plain.standing is Standing.REGIONAL


def test_both_majorities_make_an_issue_common() -> None:
    box = [EndorsementBallot(region, {"X": Vote.YES}) for region in ("AFR", "AFR", "LAC", "LAC")]
    box += [EndorsementBallot("EUR", {"X": Vote.NO})] * 2
    (item,) = endorse(["X"], box, Decimal(0), 2)
    assert (item.support, item.regions_needed, item.standing) == (Fraction(2, 3), 2, Standing.COMMON)


def test_abstentions_weigh_nothing_but_are_counted() -> None:
    box = [EndorsementBallot("AFR", {"X": Vote.YES}), EndorsementBallot("AFR", {}), EndorsementBallot("LAC", {})]
    item, silent = endorse(["X", "Y"], box, Decimal(0), 1)
    assert item.support == 1
    assert item.votes == {
        "AFR": {Vote.YES: 1, Vote.NO: 0, Vote.ABSTAIN: 1},
        "LAC": {Vote.YES: 0, Vote.NO: 0, Vote.ABSTAIN: 1},
    }
    assert (silent.support, silent.standing) == (None, Standing.NOT_ENDORSED)


def test_a_vote_on_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="not listed"):
        endorse(["X"], [EndorsementBallot("AFR", {"Y": Vote.YES})], Decimal(0), 2)


def test_quorum_of_the_worked_example() -> None:
    cast = {region: voters for region, (_, voters) in VOTERS.items()}
    assert quorum(cast).regions_reaching == ("AFR", "ASI", "EUR", "LAC")
    assert quorum(cast).met
    assert not quorum({"AFR": 100, "LAC": 2, "MENA": 1}).met


@given(st.lists(st.tuples(st.sampled_from(["AFR", "LAC", "EUR"]), st.sampled_from(list(Vote))), max_size=20))
def test_no_issue_is_common_without_a_majority_of_regions(votes: list[tuple[str, Vote]]) -> None:
    box = [EndorsementBallot(region, {"X": vote}) for region, vote in votes]
    (item,) = endorse(["X"], box, Decimal(0), 2)
    if item.standing is Standing.COMMON:
        assert item.support is not None
        assert item.support >= Fraction(1, 2)
        assert 3 * len(item.regions_for) >= 2 * item.regions_voting
    assert (item.standing is Standing.NOT_ENDORSED) == (not item.regions_for)
