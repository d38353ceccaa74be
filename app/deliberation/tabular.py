"""CSV that a spreadsheet can open without running anything: RFC 4180 rows, formula signs disarmed."""

import csv
import io
from collections.abc import Iterable, Sequence

from app.deliberation.trends import Trend

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
TREND_COLUMNS = (
    "subject",
    "title",
    "region",
    "n",
    "k",
    "prevalence",
    "lift",
    "mean",
    "commonality",
    "breadth",
    "class",
    "stressed",
    "suppressed",
)

Cell = str | int | float | bool | None


def _disarmed(cell: Cell) -> Cell:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_SIGNS) else cell


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """UTF-8 CSV with a heading row and CRLF line ends; text that begins like a formula gets a leading apostrophe."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_disarmed(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


def trend_rows(
    found: Iterable[Trend],
    organisations: dict[str, int],
    suppressed: Iterable[str],
    titles: dict[str, str],
) -> list[list[Cell]]:
    """One row for each concern and region, in the columns of `TREND_COLUMNS`; suppressed cells are empty."""
    rows: list[list[Cell]] = []
    hidden = frozenset(suppressed)
    for item in found:
        for region in (*organisations, *sorted(hidden - organisations.keys())):
            out = region in hidden
            p, lift = item.prevalence.get(region), item.lift.get(region)
            rows.append(
                [
                    item.subject,
                    titles.get(item.subject, ""),
                    region,
                    None if out else organisations[region],
                    None if out else item.counts.get(region, 0),
                    None if out or p is None else round(float(p), 4),
                    None if out or lift is None else round(float(lift), 4),
                    None if item.mean is None else round(float(item.mean), 4),
                    None if item.commonality is None else round(item.commonality, 4),
                    None if item.breadth is None else round(float(item.breadth), 4),
                    item.kind.value,
                    region in item.regions,
                    out,
                ]
            )
    return rows
