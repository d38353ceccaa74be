"""Every number of the guide "How priorities are computed" is recomputed here."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from app.deliberation.aggregation import Matrix, Ranking, aggregate
from app.deliberation.double_majority import endorse
from app.deliberation.explanation import explain, in_words
from app.deliberation.quorum import quorum
from app.deliberation.trends import Thresholds, similarity, trends
from app.deliberation.weights import region_masses
from tests.deliberation.test_double_majority import worked_example
from tests.deliberation.vectors import ISSUES, VECTORS, ballots

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "priorities.md").read_text(encoding="utf-8")
LINES = [line.strip() for line in GUIDE.splitlines()]
PROSE = " ".join(line.removeprefix("> ") for line in LINES)
RANKING = aggregate(ISSUES, ballots(), Decimal(0), 2)
N = VECTORS["trends"]["n"]


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def test_ballots_and_weights() -> None:
    masses = region_masses(RANKING.ballots_cast, Decimal(0), 2)
    for group in VECTORS["priority"]["ballots"]:
        region = group["region"]
        assert row(region, group["orgs"], group["ranking"].replace(">", " > ")) in LINES
        assert row(region, masses[region], RANKING.weights[region]) in LINES


def matrix_rows(ranking: Ranking, numbers: Matrix) -> list[str]:
    return [
        row(f"**{name}**", *("" if a == b else ranking.share(numbers[a][b]) for b in range(5))).replace("|  |", "| |")
        for a, name in enumerate(ranking.issues)
    ]


def test_matrices() -> None:
    for numbers in (RANKING.pairwise, RANKING.paths):
        for line in matrix_rows(RANKING, numbers):
            assert line in LINES, line


def test_result_ties_agreement_and_quorum() -> None:
    for a in RANKING.order:
        assert row(RANKING.places[a], RANKING.issues[a], RANKING.borda[a]) in LINES
    told = ", ".join(f"{region} {RANKING.agreement[region]}" for region in ("AFR", "LAC", "EUR", "ASI", "MENA"))
    assert f"{told}." in PROSE
    tied = aggregate(ISSUES, ballots(), Decimal(0), 1)
    assert [tied.share(tied.pairwise[a][b]) for a, b in ((3, 0), (0, 4), (4, 3))] == [Fraction(3, 5)] * 3
    assert {tied.borda[a] for a in (0, 3, 4)} == {Fraction(7, 5)}
    assert quorum(RANKING.ballots_cast).regions_reaching == ("AFR", "ASI", "EUR", "LAC")
    plain = aggregate(ISSUES, ballots(), Decimal(1), 1)
    assert " > ".join(plain.issues[a] for a in plain.order) == "A > C > B > E > D"


def test_the_explanation_is_quoted_word_for_word() -> None:
    texts = [in_words(item, {issue: issue for issue in ISSUES}) for item in explain(RANKING)]
    assert texts[2] in PROSE


def test_endorsement() -> None:
    (item,) = endorse(["X"], worked_example(), Decimal(0), 2)
    assert (item.plain_support, item.support) == (Fraction(11, 17), Fraction(11, 27))
    assert f"{item.plain_support} (64.7 %)" in PROSE
    assert f"{item.support} (40.7 %)" in PROSE
    assert f"{len(item.regions_for)} of {item.regions_voting} regions" in PROSE
    assert f"where {item.regions_needed} are needed" in PROSE


def test_trends() -> None:
    counts = {issue: expected["k"] for issue, expected in VECTORS["trends"]["issues"].items()}
    found = trends(N, counts, Thresholds())
    for item in found:
        assert item.mean is not None
        assert item.commonality is not None
        assert item.breadth is not None
        line = row(
            item.subject,
            ", ".join(str(item.counts[region]) for region in N),
            f"{float(item.mean):.4f}",
            f"{item.commonality:.4f}",
            float(item.breadth),
            " ".join((item.kind, *item.regions)),
        )
        assert line in LINES, line
    likeness = similarity(found)
    for first, second in (("LAC", "MENA"), ("AFR", "ASI"), ("LAC", "EUR")):
        value = likeness[first][second]
        assert value is not None
        assert f"({value:.4f})".replace("-", "−") in PROSE
