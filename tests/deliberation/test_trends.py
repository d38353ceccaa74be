"""Trends: every number of the worked example, classes, change, likeness, and what the public may not learn."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deliberation.contributions import Span
from app.deliberation.disclosure import publishable, suppressed_regions
from app.deliberation.tabular import TREND_COLUMNS, as_csv, trend_rows
from app.deliberation.trends import Direction, Thresholds, TrendClass, change, similarity, trend, trends
from tests.deliberation.vectors import VECTORS

N: dict[str, int] = VECTORS["trends"]["n"]
EXPECTED: dict[str, dict[str, Any]] = VECTORS["trends"]["issues"]
K: dict[str, dict[str, int]] = {issue: expected["k"] for issue, expected in EXPECTED.items()}
DEFAULT = Thresholds()


@pytest.mark.parametrize("issue", list(EXPECTED))
def test_worked_example_to_four_decimals(issue: str) -> None:
    found, expected = trend(issue, N, K[issue], DEFAULT), EXPECTED[issue]
    assert found.mean is not None
    assert found.commonality is not None
    assert found.breadth is not None
    assert {region: round(float(p), 4) for region, p in found.prevalence.items()} == expected["p"]
    assert round(float(found.mean), 4) == expected["P"]
    assert round(found.commonality, 4) == expected["C"]
    assert round(float(found.breadth), 4) == expected["B"]
    assert {region: round(float(lift), 4) for region, lift in found.lift.items()} == expected["lift"]
    assert found.kind == expected["class"]
    assert list(found.regions) == expected["regions"]


def test_likeness_of_regions_in_the_worked_example() -> None:
    likeness = similarity(trends(N, K, DEFAULT))
    for first, second, expected in (("LAC", "MENA", 0.7683), ("AFR", "ASI", 0.4368), ("LAC", "EUR", -0.5754)):
        value = likeness[first][second]
        assert value is not None
        assert round(value, 4) == expected
        assert likeness[second][first] == value
    assert likeness["AFR"]["AFR"] == 1.0


def test_likeness_without_a_profile_is_none() -> None:
    assert similarity([trend("x", {"A": 4, "B": 4, "C": 4}, {"A": 2, "B": 2, "C": 2}, DEFAULT)])["A"]["B"] is None
    assert similarity([]) == {}


@pytest.mark.parametrize(
    ("n", "k", "kind", "regions"),
    [
        ({"A": 5, "B": 5}, {"A": 5}, TrendClass.INSUFFICIENT, ()),
        ({"A": 5, "B": 5, "C": 1}, {"A": 5, "C": 1}, TrendClass.INSUFFICIENT, ()),
        ({"A": 9, "B": 9, "C": 9, "D": 9, "E": 9}, {"A": 8, "B": 8}, TrendClass.SHARED_SUBSET, ("A", "B")),
        ({"A": 4, "B": 4, "C": 4}, {"A": 1, "B": 1, "C": 1}, TrendClass.SCATTERED, ()),
        ({"A": 2, "B": 9, "C": 9}, {"A": 1}, TrendClass.SCATTERED, ()),
    ],
)
def test_classes(n: dict[str, int], k: dict[str, int], kind: TrendClass, regions: tuple[str, ...]) -> None:
    found = trend("x", n, k, DEFAULT)
    assert (found.kind, found.regions) == (kind, regions)


def test_more_concerned_than_contributing_is_refused() -> None:
    with pytest.raises(ValueError, match="contributed"):
        trend("x", {"A": 1}, {"A": 2}, DEFAULT)


def test_change_between_periods() -> None:
    before = trend("x", {"A": 4, "B": 4, "C": 2, "D": 9}, {"A": 1, "B": 3, "C": 1, "D": 4}, DEFAULT)
    after = trend("x", {"A": 4, "B": 4, "C": 4, "D": 9}, {"A": 3, "B": 1, "C": 4, "D": 5}, DEFAULT)
    moved = change(before, after, {"A": 4, "B": 4, "C": 2, "D": 9}, {"A": 4, "B": 4, "C": 4, "D": 9}, DEFAULT)
    assert {region: item.direction for region, item in moved.items()} == {
        "A": Direction.RISING,
        "B": Direction.FALLING,
        "C": Direction.INSUFFICIENT,
        "D": Direction.STEADY,
    }
    assert moved["A"].difference == Fraction(2, 5)
    assert moved["C"].difference is None


counts = st.integers(0, 2).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(counts, counts)
def test_the_public_answer_does_not_depend_on_a_suppressed_cell(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    """Whatever a small region holds, everything published is the same: nothing can be solved for it."""

    def published(hidden: tuple[int, int]) -> tuple[Any, ...]:
        organisations = {**N, "OTH": hidden[0]}
        raised = {issue: {**by_region, "OTH": hidden[1]} for issue, by_region in K.items()}
        raised["only-there"] = {"OTH": hidden[1]}
        shown, kept = publishable(organisations, raised)
        found = trends(shown, kept, DEFAULT)
        rows = trend_rows(found, shown, suppressed_regions(organisations), {})
        return suppressed_regions(organisations), found, similarity(found), as_csv(TREND_COLUMNS, rows)

    assert published(first) == published(second)
    assert published(first)[0] == ("OTH",)


def test_csv_is_safe_to_open_and_says_what_is_suppressed() -> None:
    shown, kept = publishable({"AFR": 3, "LAC": 3, "EUR": 3, "OTH": 1}, {"x": {"AFR": 1, "OTH": 1}})
    table = as_csv(
        TREND_COLUMNS, trend_rows(trends(shown, kept, DEFAULT), shown, ["OTH"], {"x": '=HYPERLINK("a"), b'})
    ).decode()
    assert table.splitlines() == [
        "subject,title,region,n,k,prevalence,lift,mean,commonality,breadth,class,stressed,suppressed",
        'x,"\'=HYPERLINK(""a""), b",AFR,3,1,0.375,1.8,0.2083,0.865,0.3333,scattered,false,false',
        'x,"\'=HYPERLINK(""a""), b",LAC,3,0,0.125,0.6,0.2083,0.865,0.3333,scattered,false,false',
        'x,"\'=HYPERLINK(""a""), b",EUR,3,0,0.125,0.6,0.2083,0.865,0.3333,scattered,false,false',
        'x,"\'=HYPERLINK(""a""), b",OTH,,,,,0.2083,0.865,0.3333,scattered,false,true',
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2017..2019", "2017–2019"),
        ("2018", "2018"),
        ("2017-07..", "since 2017-07"),
        ("..2019", "until 2019"),
    ],
)
def test_a_period_in_words(text: str, words: str) -> None:
    assert Span.read(text).in_words() == words
