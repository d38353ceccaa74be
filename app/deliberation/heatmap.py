"""The heat map: regions × concerns as an SVG a person can read, and the same as a plain table of text.

Colours run from pale to dark on one hue path (after ColorBrewer's YlGnBu, safe for the common forms of colour
blindness and in grey); every cell also carries its number, so colour alone tells nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from unicodedata import bidirectional, category, east_asian_width

from app.deliberation.trends import Trend, TrendClass

STEPS = (
    (0.15, "#ffffd9", "#1a1a1a"),
    (0.30, "#c7e9b4", "#1a1a1a"),
    (0.45, "#7fcdbb", "#1a1a1a"),
    (0.60, "#41b6c4", "#1a1a1a"),
    (0.80, "#225ea8", "#ffffff"),
    (1.01, "#081d58", "#ffffff"),
)
"""Upper bound of the share, colour of the cell, colour of its text."""

LABEL_WIDTH, CELL_WIDTH, CELL_HEIGHT, CLASS_WIDTH, TOP = 330, 84, 40, 300, 96
LABEL_LENGTH = 44

CLASS_WORDS = {
    TrendClass.COMMON: "common",
    TrendClass.UNEVEN: "widespread, stressed in",
    TrendClass.UNIQUE: "particular to",
    TrendClass.SHARED_SUBSET: "shared by",
    TrendClass.SCATTERED: "scattered",
    TrendClass.INSUFFICIENT: "too few data",
}


@dataclass(frozen=True, slots=True)
class Map:
    """What is shown: concerns in order, the names to show them by, contributing organisations for each region."""

    heading: str
    regions: Sequence[str]
    organisations: Mapping[str, int]
    trends: Sequence[Trend]
    labels: Mapping[str, str]
    suppressed: frozenset[str] = frozenset()


def class_in_words(trend: Trend) -> str:
    """The class as a reader meets it: `particular to AFR`."""
    return " ".join((CLASS_WORDS[trend.kind], ", ".join(trend.regions))).strip()


def _cell(shown: Map, trend: Trend, region: str) -> tuple[str, str]:
    """The number of a cell and the counts below it."""
    if region in shown.suppressed:
        return "n<3", "not shown"
    counts = f"{trend.counts.get(region, 0)} of {shown.organisations.get(region, 0)}"
    return (f"{float(trend.prevalence[region]):.2f}" if region in trend.prevalence else "–"), counts


def _text(x: float, y: float, words: str, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{extra}>{escape(_plain(words))}</text>'


def _plain(words: str) -> str:
    """Without control characters and noncharacters, which XML has no place for."""
    return "".join(character for character in words if category(character) not in ("Cc", "Cs", "Cn"))


def _short(words: str) -> str:
    """As much of a label as its column has room for, estimated: capitals are wider than small letters."""
    room = LABEL_LENGTH - sum(_columns(character) + 0.35 * character.isupper() for character in words)
    if room >= 0:
        return words
    kept = words
    while kept and room < 1:
        room += _columns(kept[-1]) + 0.35 * kept[-1].isupper()
        kept = kept[:-1]
    kept = kept.rstrip()
    # After a right-to-left letter the dots would jump to the other end without a mark of the same direction.
    return f"{kept}…\u200f" if kept and bidirectional(kept[-1]) in ("R", "AL") else f"{kept}…"


def svg(shown: Map) -> str:
    """An SVG document with title, description, labels, a number in each cell and a legend."""
    width = LABEL_WIDTH + CELL_WIDTH * len(shown.regions) + CLASS_WIDTH + 20
    bottom = TOP + CELL_HEIGHT * len(shown.trends)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 96}" width="{width}"'
        f' height="{bottom + 96}" role="img" aria-labelledby="title desc"'
        ' font-family="system-ui, sans-serif" font-size="13" fill="#1a1a1a">',
        f'<title id="title">{escape(_plain(shown.heading))}</title>',
        f'<desc id="desc">{escape(_plain(description(shown)))}</desc>',
        f'<rect width="{width}" height="{bottom + 96}" fill="#ffffff"/>',
        _text(16, 30, shown.heading, ' font-size="18" font-weight="bold"'),
        _text(16, 52, "Share of contributing organisations that raised it (smoothed); below it the plain count."),
    ]
    for column, region in enumerate(shown.regions):
        x = LABEL_WIDTH + CELL_WIDTH * (column + 0.5)
        count = "n<3" if region in shown.suppressed else f"n={shown.organisations.get(region, 0)}"
        parts.append(_text(x, TOP - 22, region, ' text-anchor="middle" font-weight="bold"'))
        parts.append(_text(x, TOP - 7, count, ' text-anchor="middle" font-size="11"'))
    if not shown.trends:
        parts.append(_text(16, TOP + 14, "Nothing was raised in this period that you may read."))
    for row, trend in enumerate(shown.trends):
        parts.extend(_row(shown, trend, TOP + CELL_HEIGHT * row))
    parts.extend(_legend(bottom + 34))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _row(shown: Map, trend: Trend, top: float) -> list[str]:
    label = shown.labels.get(trend.subject, trend.subject)
    parts = [f"<g><title>{escape(_plain(label))}</title>", _text(16, top + 24, _short(label)), "</g>"]
    for column, region in enumerate(shown.regions):
        number, counts = _cell(shown, trend, region)
        fill, ink = "#eeeeee", "#4d4d4d"
        if region not in shown.suppressed and region in trend.prevalence:
            share = float(trend.prevalence[region])
            fill, ink = next((colour, text) for bound, colour, text in STEPS if share < bound)
        x = LABEL_WIDTH + CELL_WIDTH * column
        middle = x + CELL_WIDTH / 2
        edge = ' stroke="#b30000" stroke-width="3"' if region in trend.regions else ' stroke="#ffffff"'
        parts.append(
            f'<rect x="{x + 2}" y="{top + 2:g}" width="{CELL_WIDTH - 4}" height="{CELL_HEIGHT - 4}"'
            f' fill="{fill}"{edge}/>'
        )
        parts.append(_text(middle, top + 19, number, f' text-anchor="middle" font-weight="bold" fill="{ink}"'))
        parts.append(_text(middle, top + 33, counts, f' text-anchor="middle" font-size="10" fill="{ink}"'))
    parts.append(_text(LABEL_WIDTH + CELL_WIDTH * len(shown.regions) + 12, top + 24, class_in_words(trend)))
    return parts


def _legend(top: float) -> list[str]:
    parts = [_text(16, top + 14, "Share", ' font-weight="bold"')]
    low = 0.0
    for index, (bound, fill, _) in enumerate(STEPS):
        x = 76 + index * 112
        parts.append(f'<rect x="{x}" y="{top:g}" width="24" height="18" fill="{fill}" stroke="#767676"/>')
        parts.append(_text(x + 30, top + 14, f"{low:.2f}–{min(bound, 1):.2f}"))
        low = bound
    parts.append(f'<rect x="76" y="{top + 28:g}" width="24" height="18" fill="#eeeeee" stroke="#767676"/>')
    parts.append(_text(106, top + 42, "not shown, or too few data"))
    parts.append(
        f'<rect x="300" y="{top + 28:g}" width="24" height="18" fill="none" stroke="#b30000" stroke-width="3"/>'
    )
    parts.append(_text(330, top + 42, "stressed in this region"))
    return parts


def description(shown: Map) -> str:
    """The map in sentences, for those who cannot see it: one sentence for each concern."""
    sentences = [f"Table of {len(shown.trends)} concerns by {len(shown.regions)} regions."]
    for trend in shown.trends:
        cells = "; ".join(
            f"{region} {number} ({counts})"
            for region in shown.regions
            for number, counts in (_cell(shown, trend, region),)
        )
        sentences.append(f"{shown.labels.get(trend.subject, trend.subject)}: {class_in_words(trend)}: {cells}.")
    return " ".join(sentences)


def _columns(words: str) -> int:
    """Columns a text takes in a terminal."""
    return sum(
        0 if category(character) in ("Mn", "Me", "Cf") else 2 if east_asian_width(character) in "WF" else 1
        for character in words
    )


def text_table(shown: Map) -> str:
    """The map as an aligned table of plain text, with its heading and the number of organisations."""
    rows = [["concern", *shown.regions, "class"]]
    totals = ["n<3" if region in shown.suppressed else str(shown.organisations[region]) for region in shown.regions]
    rows.append(["organisations", *totals, ""])
    for trend in shown.trends:
        cells = [
            number if region in shown.suppressed else f"{number} ({counts})"
            for region in shown.regions
            for number, counts in (_cell(shown, trend, region),)
        ]
        rows.append([_plain(_short(shown.labels.get(trend.subject, trend.subject))), *cells, class_in_words(trend)])
    widths = [max(_columns(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join((_plain(shown.heading), "", *lines)) + "\n"
