"""The heat map: well-formed, labelled, every number written out, and the same again as text."""

import re
from xml.etree import ElementTree

from app.deliberation.heatmap import STEPS, Map, description, svg, text_table
from app.deliberation.trends import Thresholds, trends
from tests.deliberation.vectors import VECTORS

SVG = "{http://www.w3.org/2000/svg}"
N = VECTORS["trends"]["n"]
FOUND = trends(N, {issue: expected["k"] for issue, expected in VECTORS["trends"]["issues"].items()}, Thresholds())
SHOWN = Map("Trends 2017–2019", list(N), N, FOUND, {"funding": 'Funding <b> & "more"'})


def test_the_picture_is_well_formed_and_described() -> None:
    root = ElementTree.fromstring(svg(SHOWN))
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Trends 2017–2019"
    assert root.findtext(f"{SVG}desc") == description(SHOWN)
    assert "intelligence: particular to EUR: AFR 0.06 (0 of 8); LAC 0.21 (1 of 6); EUR 0.75 (4 of 5)" in description(
        SHOWN
    )


def test_every_number_label_and_legend_step_is_written_out() -> None:
    words = [element.text for element in ElementTree.fromstring(svg(SHOWN)).iter(f"{SVG}text")]
    for item in FOUND:
        for region, p in item.prevalence.items():
            assert f"{float(p):.2f}" in words
            assert f"{item.counts[region]} of {N[region]}" in words
    assert {"AFR", "n=8", 'Funding <b> & "more"', "widespread, stressed in LAC", "0.00–0.15", "0.80–1.00"} <= set(words)


def test_a_suppressed_region_shows_no_number() -> None:
    shown = Map("Public", [*N, "OTH"], N, FOUND, {}, frozenset({"OTH"}))
    picture, table = svg(shown), text_table(shown)
    assert picture.count("not shown") == len(FOUND) + 1 + description(shown).count("not shown")
    assert table.splitlines()[3].split()[-1] == "n<3"


def test_text_on_every_colour_has_enough_contrast() -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    shades = [luminance(fill) for _, fill, _ in STEPS]
    assert shades == sorted(shades, reverse=True)
    for _, fill, ink in STEPS:
        light, dark = sorted((luminance(fill), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_table_is_aligned() -> None:
    lines = text_table(SHOWN).splitlines()
    assert lines[0] == "Trends 2017–2019"
    assert re.split(r"\s{2,}", lines[2]) == ["concern", "AFR", "LAC", "EUR", "ASI", "MENA", "class"]
    assert re.split(r"\s{2,}", lines[3]) == ["organisations", "8", "6", "5", "4", "3"]
    assert len({line.index("(") for line in lines[4:]}) == 1


def test_no_title_breaks_the_picture() -> None:
    titles = {"funding": "Not\uffff a \ufffe character\x07", "relations": "W" * 60, "intelligence": "安" * 60}
    words = [element.text or "" for element in ElementTree.fromstring(svg(Map("T", list(N), N, FOUND, titles))).iter()]
    assert "Not a  character" in words
    assert "W" * 31 + "…" in words
    assert "安" * 21 + "…" in words
    arabic = svg(Map("T", list(N), N, FOUND, {"funding": "مساءلة أجهزة الشرطة " * 4}))
    assert "…\u200f</text>" in arabic


def test_nothing_raised_is_said() -> None:
    empty = Map("Empty", ["AFR"], {"AFR": 0}, [], {})
    assert "Nothing was raised" in svg(empty)
    assert text_table(empty)
