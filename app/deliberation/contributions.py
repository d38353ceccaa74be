"""Contributions: how many organisations of each region raised what, from what this caller may read, and nothing else.

A contribution is a published finding, case or question, or an endorsement. It counts for the region of its owner, once
for each organisation and concern, from the start of its period or else from its publication. Not-claimed entries and
nodes never count. With `as_of`, records are taken as they were then, if both their marking then and their marking now
let the caller read them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from app import reference
from app.db.pool import Connection
from app.identity.caller import Caller
from app.identity.organisations import visible_organisations
from app.records.marking import parameters, visible_to

KINDS = ("finding", "case", "question")
DIMENSIONS = ("issue", "topic", "cso-function")
FUNCTIONS = tuple(topic.id for topic in reference.TOPICS.values() if topic.type == "cso-function" and topic.parent)


@dataclass(frozen=True, slots=True)
class Span:
    """A period of reduced precision; None is open. Dates are compared as far as both are known."""

    start: str | None = None
    end: str | None = None

    @classmethod
    def read(cls, text: str) -> "Span":
        """`2017..2019`, `2017-07..`, `..2019` or `2018`. Errors: ValueError for a day there is not, or an end
        before the start."""
        start, dots, end = text.partition("..")
        span = cls(start or None, (end or None) if dots else start)
        for day in filter(None, (span.start, span.end)):
            # A year or a month is completed, so that each is checked as the day it begins with.
            date.fromisoformat((day + "-01-01")[:10])
        if span.start and span.end and span.end[: len(span.start)] < span.start[: len(span.end)]:
            raise ValueError
        return span

    def as_json(self) -> dict[str, str | None]:
        """The period on the wire."""
        return {"start": self.start, "end": self.end}

    def in_words(self) -> str:
        """The period as a reader meets it: `2017–2019`, `2018`, `since 2017-07`, `until 2019`, `all time`."""
        if self.start and self.end:
            return self.start if self.start == self.end else f"{self.start}–{self.end}"
        return f"since {self.start}" if self.start else f"until {self.end}" if self.end else "all time"


SPAN_PATTERN = r"(?=[0-9.])([0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?)?(\.\.([0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?)?)?"


@dataclass(frozen=True, slots=True)
class Voices:
    """Region → contributing organisations; concern → region → those of them that raised it; concern → title."""

    organisations: dict[str, int]
    counts: dict[str, dict[str, int]]
    titles: dict[str, str] = field(default_factory=dict)


_NOW = """
SELECT record.id, record.kind, record.organisation_id, record.title, record.topics, record.content AS body,
    coalesce(record.starts, to_char(record.published_at, 'YYYY-MM-DD')) AS begins
FROM record WHERE record.kind = ANY (%(kinds)s) AND record.status = 'published' AND {now}
"""
_THEN = """
SELECT latest.record_id AS id, latest.kind, latest.organisation_id, latest.body ->> 'title' AS title,
    ARRAY(SELECT jsonb_array_elements_text(latest.body -> 'topics')) AS topics, latest.body,
    coalesce(latest.body -> 'period' ->> 'start', left(latest.envelope ->> 'published_at', 10)) AS begins
FROM (SELECT DISTINCT ON (revision.record_id) revision.* FROM revision
    WHERE revision.kind = ANY (%(kinds)s) AND revision.at <= %(as_of)s
    ORDER BY revision.record_id, revision.version DESC) AS latest
JOIN record ON record.id = latest.record_id
WHERE latest.status = 'published' AND record.status = 'published' AND {now} AND {then}
"""
_IN_SPAN = """
(%(start)s::text IS NULL OR left({begins}, length(%(start)s)) >= left(%(start)s, length({begins})))
AND (%(end)s::text IS NULL OR left({begins}, length(%(end)s)) <= left(%(end)s, length({begins})))
"""
_COUNTS = "organisation.status <> 'not-claimed' AND organisation.kind <> 'node' AND organisation.region IS NOT NULL"

SHOWN_NOW = """
(SELECT latest.display FROM endorsement AS latest WHERE latest.issue_id = newest.issue_id
    AND latest.organisation_id = newest.organisation_id ORDER BY latest.seq DESC LIMIT 1)
"""
"""The display an organisation gives its endorsement today; an older state is never shown more widely than that."""

_RAISED = {
    "issue": """
    SELECT issue.id::text AS subject, voice.region, voice.organisation_id
    FROM state AS issue CROSS JOIN LATERAL jsonb_array_elements_text(issue.body -> 'findings') AS cited (id)
    JOIN voice ON voice.id = cited.id::uuid AND voice.kind = 'finding' WHERE issue.kind = 'issue'
    UNION
    SELECT issue.id::text, voice.region, voice.organisation_id
    FROM voice CROSS JOIN LATERAL jsonb_array_elements_text(voice.body -> 'issues') AS named (id)
    JOIN state AS issue ON issue.id = named.id::uuid AND issue.kind = 'issue'
    UNION
    SELECT issue_id::text, region, organisation_id FROM stance WHERE position = 'yes'
    """,
    "topic": """
    SELECT topic AS subject, voice.region, voice.organisation_id FROM voice CROSS JOIN unnest(voice.topics) AS topic
    """,
    "cso-function": """
    SELECT topic AS subject, voice.region, voice.organisation_id FROM voice CROSS JOIN unnest(voice.topics) AS topic
    WHERE topic = ANY (%(functions)s)
    UNION
    SELECT served.id, voice.region, voice.organisation_id
    FROM voice CROSS JOIN LATERAL jsonb_array_elements_text(voice.body -> 'functions') AS served (id)
    """,
}


def _common(caller: Caller, as_of: datetime | None) -> str:
    """The CTEs `state` (records as read), `voice` (contributions in the period), `stance` (endorsements in it)."""
    now = visible_to(caller)
    state = _NOW.format(now=now) if as_of is None else _THEN.format(now=now, then=visible_to(caller, of="latest"))
    known, _ = visible_organisations(caller)
    # What an endorsement shows to anyone by region, it shows by choice, then and now; members see the others too,
    # where they know the organisation.
    public = f"newest.display = 'public' AND {SHOWN_NOW} = 'public' AND organisation.listing <> 'unlisted'"
    display = f"({known})" if caller.is_member else public
    return f"""
    WITH state AS ({state}),
    voice AS (
        SELECT state.id, state.kind, state.organisation_id, state.topics, state.body, organisation.region
        FROM state JOIN organisation ON organisation.id = state.organisation_id
        WHERE state.kind <> 'issue' AND {_COUNTS} AND {_IN_SPAN.format(begins="state.begins")}
    ),
    stance AS (
        SELECT newest.issue_id, newest.position, newest.organisation_id, organisation.region
        FROM (SELECT DISTINCT ON (endorsement.issue_id, endorsement.organisation_id) endorsement.* FROM endorsement
            WHERE endorsement.at <= coalesce(%(as_of)s::timestamptz, 'infinity')
            ORDER BY endorsement.issue_id, endorsement.organisation_id, endorsement.seq DESC) AS newest
        JOIN state ON state.id = newest.issue_id AND state.kind = 'issue'
        JOIN organisation ON organisation.id = newest.organisation_id
        WHERE newest.position <> 'withdrawn' AND {display} AND {_COUNTS}
        AND {_IN_SPAN.format(begins="to_char(newest.at, 'YYYY-MM-DD')")}
    )
    """


async def gather(
    connection: Connection, caller: Caller, dimension: str, span: Span, as_of: datetime | None = None
) -> Voices:
    """What the caller may read, counted. In the dimension `issue` every published issue it may read is there."""
    common = _common(caller, as_of)
    values: dict[str, Any] = {
        **parameters(caller),
        **visible_organisations(caller)[1],
        "kinds": ["issue", *KINDS],
        "functions": list(FUNCTIONS),
        "as_of": as_of,
        "start": span.start,
        "end": span.end,
    }
    cursor = await connection.execute(
        f"{common} SELECT region, count(DISTINCT organisation_id) FROM (SELECT region, organisation_id FROM voice"
        " UNION ALL SELECT region, organisation_id FROM stance) AS contributed GROUP BY region",
        values,
    )
    organisations = _by_region(await cursor.fetchall())
    cursor = await connection.execute(
        f"{common} SELECT subject, region, count(DISTINCT organisation_id) FROM ({_RAISED[dimension]}) AS raised"
        " GROUP BY subject, region",
        values,
    )
    counts: dict[str, dict[str, int]] = {}
    for subject, region, raised in await cursor.fetchall():
        counts.setdefault(subject, {})[region] = raised
    if dimension != "issue":
        titles = {subject: _label(subject) for subject in counts}
    else:
        cursor = await connection.execute(f"{common} SELECT id::text, title FROM state WHERE kind = 'issue'", values)
        titles = dict(await cursor.fetchall())
        counts = {subject: counts.get(subject, {}) for subject in sorted(titles)}
    return Voices(organisations, counts, titles)


def _by_region(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: Mapping[str, int] = dict(rows)
    return {region: found[region] for region in reference.REGIONS if region in found}


def _label(topic: str) -> str:
    known = reference.TOPICS.get(topic)
    return topic if known is None else known.labels.get("en", topic)
