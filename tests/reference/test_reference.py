"""Reference data: complete, consistent, and never losing an id that records may name."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from app import reference

DATA = Path(reference.__file__).parent / "data"
RELEASED = (Path(__file__).parent / "released_topics.txt").read_text().split()


def test_every_country_lies_in_exactly_one_region() -> None:
    assert len(reference.COUNTRIES) == 250
    listed = Counter(code for region in reference.REGIONS.values() for code in region.countries)
    assert set(listed) == set(reference.COUNTRIES)
    assert set(listed.values()) == {1}


def test_regions_hold_as_many_countries_as_the_partition_says() -> None:
    sizes = {code: len(region.countries) for code, region in reference.REGIONS.items()}
    assert sizes == {"AFR": 54, "ASI": 32, "EUR": 57, "LAC": 52, "MENA": 20, "OTH": 35}


@pytest.mark.parametrize(
    ("country", "region"),
    [("SD", "AFR"), ("EG", "MENA"), ("IR", "MENA"), ("TR", "EUR"), ("XK", "EUR"), ("AQ", "OTH"), ("MX", "LAC")],
)
def test_countries_of_the_rule_lie_where_it_says(country: str, region: str) -> None:
    assert reference.regions_of([country]) == {region}


def test_regions_of_several_countries_are_their_union() -> None:
    assert reference.regions_of(["CD", "SS", "RS"]) == {"AFR", "EUR"}
    assert reference.regions_of([]) == frozenset()


def test_countries_regions_and_topics_are_named_in_six_languages() -> None:
    wanted = {"en", "fr", "es", "pt", "ar", "sr-Latn"}
    assert set(reference.LABEL_LANGUAGES.values()) == wanted
    for country in reference.COUNTRIES.values():
        assert set(country.names) == wanted, country.code
    for region in reference.REGIONS.values():
        assert set(region.names) == wanted, region.code
    for topic in reference.TOPICS.values():
        assert set(topic.labels) == wanted, topic.id


def test_codes_have_their_form() -> None:
    for country in reference.COUNTRIES.values():
        assert re.fullmatch("[A-Z]{2}", country.code)
        assert re.fullmatch("[A-Z]{3}", country.iso3)
        assert country.m49 is None or re.fullmatch("[0-9]{3}", country.m49)


def test_topics_form_a_tree_below_six_headings() -> None:
    roots = [topic.id for topic in reference.TOPICS.values() if topic.parent is None]
    assert roots == ["institutions", "oversight-actors", "themes", "cso-functions", "methods", "products"]
    assert len(reference.TOPICS) == 98
    for topic in reference.TOPICS.values():
        assert topic.parent is None or topic.id in reference.TOPICS[topic.parent].narrower
    assert sum(len(reference.with_narrower(root)) for root in roots) == 98


def test_related_topics_are_symmetric_and_never_on_one_line() -> None:
    for topic in reference.TOPICS.values():
        for other in topic.related:
            assert topic.id in reference.TOPICS[other].related
            assert not reference.is_below(topic.id, other)
            assert not reference.is_below(other, topic.id)


def test_a_concept_is_below_all_its_broader_ones_but_not_below_itself() -> None:
    assert reference.is_below("military-justice", "justice-sector")
    assert reference.is_below("military-justice", "institutions")
    assert not reference.is_below("justice-sector", "military-justice")
    assert not reference.is_below("institutions", "institutions")
    assert list(reference.broader("military-justice")) == ["justice-sector", "institutions"]


def test_with_narrower_begins_with_the_concept_itself() -> None:
    assert reference.with_narrower("justice-sector") == ("justice-sector", "military-justice", "customary-justice")


def test_no_released_topic_is_ever_removed() -> None:
    assert set(RELEASED) <= set(reference.TOPICS)


def test_every_topic_is_on_the_list_of_released_ones() -> None:
    assert sorted(reference.TOPICS) == sorted(RELEASED), "add new ids to released_topics.txt"


def test_alternative_labels_keep_their_language() -> None:
    assert "law enforcement" in reference.TOPICS["police"].alt_labels["en"]
    for topic in reference.TOPICS.values():
        assert all(re.fullmatch("[a-z]{2}(-[A-Z][A-Za-z]+)?", tag) for tag in topic.alt_labels), topic.id


def test_licences_are_current_spdx_identifiers() -> None:
    assert {"CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "Apache-2.0"} <= set(reference.LICENCES)
    assert "GPL-3.0" not in reference.LICENCES
    assert not any(name.startswith("LicenseRef-") for name in reference.LICENCES)


def test_languages_hold_short_and_long_subtags() -> None:
    assert {"en", "fr", "es", "pt", "ar", "sr", "sw", "ln", "kg", "sg", "my", "am", "sq", "prs", "tet"} <= set(
        reference.LANGUAGES
    )
    assert {"fra", "und", "mul", "qaa", "xx"}.isdisjoint(reference.LANGUAGES)


def test_no_file_repeats_a_key() -> None:
    for name, key in (("countries", "iso2"), ("regions", "code"), ("topics", "id"), ("licences", "id")):
        with (DATA / f"{name}.csv").open(encoding="utf-8") as stream:
            keys = [row[key] for row in csv.DictReader(stream)]
        assert len(keys) == len(set(keys)), name


def test_every_data_file_names_its_source_and_licence() -> None:
    noted = (DATA / "SOURCES.md").read_text(encoding="utf-8")
    for file in DATA.iterdir():
        assert file.name == "SOURCES.md" or f"`{file.name}`" in noted
