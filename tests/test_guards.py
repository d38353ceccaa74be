"""Guards: who may touch the tables that hold records (requirement V8, rule B18)."""

import re
from pathlib import Path

import app

ROOT = Path(app.__file__).parent
TABLES = (
    "record",
    "document",
    "revision",
    "search_text",
    "record_reader",
    "link",
    "organisation_link",
    "translation",
)
NAMED = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|USING)\s+(?:ONLY\s+)?(?:public\.)?(?:{'|'.join(TABLES)})\b")

WITH_THE_RULE = {
    "records/read.py",
    "records/references.py",
    "records/filters.py",
    "records/store.py",
    "deliberation/contributions.py",
    "deliberation/provenance.py",
    "deliberation/reading.py",
    "exchange/exports.py",
    "exchange/feed.py",
}
"""Modules that read records for callers: each has the access rule in it."""

WITHOUT_A_CALLER = {
    "records/doctor.py": "the operator's check of everything stored; it answers with counts",
    "records/storing.py": "what the store has decided to write",
    "records/leaving.py": "the records of the organisation that leaves, and no others",
    "exchange/feed_place.py": "where the log ends and whether a place is in it; numbers that only cursors hold, sealed",
}


def naming() -> set[str]:
    """Modules whose statements name a table of records."""
    return {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.name != "tables.py" and NAMED.search(path.read_text(encoding="utf-8"))
    }


def test_only_named_modules_touch_the_tables_of_records() -> None:
    assert naming() == WITH_THE_RULE | set(WITHOUT_A_CALLER)


def test_each_module_that_reads_records_for_callers_carries_the_rule() -> None:
    for name in WITH_THE_RULE:
        assert re.search(r"\bvisible_to\(|\bbranches\(", (ROOT / name).read_text(encoding="utf-8")), name


def test_each_statement_that_reads_records_for_callers_carries_the_rule() -> None:
    """Every statement that selects from `record` has the rule, or is named here with the reason why not."""
    bare = []
    for name in sorted(WITH_THE_RULE):
        text = (ROOT / name).read_text(encoding="utf-8")
        for function in re.split(r"\n(?=(?:async )?def |class |@)", text):
            if re.search(r"\b(?:FROM|JOIN)\s+record\b", function) and not RULED.search(function):
                found = re.search(r"def (\w+)", function)
                bare.append(f"{name}:{found[1] if found else 'module'}")
    assert sorted(bare) == sorted(EXCUSED)


RULED = re.compile(r"\bvisible_to\(|\bbranch\b|\bbranches\(|\bwhere\b|\bparts\b")
EXCUSED = {
    "deliberation/contributions.py:module": "templates, filled with the rule by the functions below them",
    "deliberation/reading.py:module": "the columns of a round, to which each reader adds the rule",
    "records/read.py:kind_and_owner": "for the operator's command line",
}


def test_records_are_written_by_the_store_alone() -> None:
    """Nothing else inserts, updates or deletes rows of record and revision."""
    writing = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM)\s+(?:record|revision)\b")
    found = {
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if writing.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"records/storing.py"}
    calling = re.compile(r"^from app\.records(?:\.storing import | import .*\bstoring\b)", re.MULTILINE)
    assert {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if calling.search(path.read_text("utf-8"))} == {
        "records/store.py"
    }
