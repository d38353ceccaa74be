"""Events: consultations, meetings, trainings and dialogues, with who took part in which role and what came of them.

Body and rules only. Findings point to the events they come from; an event names none itself.
"""

from collections.abc import Iterator
from enum import StrEnum

from pydantic import Field, StrictBool, StrictInt

from app.http.problem import Fault
from app.kinds.vocabulary import FunctionId, Level
from app.records.fields import Name, Note, OrganisationRef, Part, Period, RegionCode, Text
from app.records.kind import Body, Envelope, Kind


class EventType(StrEnum):
    """What sort of gathering it is; `training-series` is a set of sessions recorded as one event."""

    CONSULTATION = "consultation"
    LAUNCH_MEETING = "launch-meeting"
    TRAINING_WORKSHOP = "training-workshop"
    TRAINING_SERIES = "training-series"
    DIALOGUE = "dialogue"
    WEBINAR = "webinar"
    OTHER = "other"


class EventRole(StrEnum):
    """What an organisation did for an event: set it going, call it, give it room, run it, pay, support, take part."""

    INITIATOR = "initiator"
    CO_INITIATOR = "co-initiator"
    CONVENOR = "convenor"
    HOST = "host"
    CO_ORGANISER = "co-organiser"
    TRAINER = "trainer"
    IMPLEMENTER = "implementer"
    FUNDER = "funder"
    SUPPORTER = "supporter"
    PARTNER = "partner"
    PARTICIPANT = "participant"


class ParticipantKind(StrEnum):
    """Sorts of participants: the kinds of organisations, public institutions, media, and practitioners at large."""

    CIVIL_SOCIETY_ORGANISATION = "civil-society-organisation"
    NETWORK = "network"
    ACADEMIA = "academia"
    THINK_TANK = "think-tank"
    INTERNATIONAL_NGO = "international-ngo"
    DONOR = "donor"
    INTERGOVERNMENTAL = "intergovernmental"
    PUBLIC_INSTITUTION = "public-institution"
    MEDIA = "media"
    PRACTITIONER = "practitioner"


class Role(Part):
    """An organisation and what it did. `name` is for those without an entry here; no person is named."""

    organisation: OrganisationRef | None = None
    role: EventRole
    name: Name | None = Field(None, description="Only where the organisation has no entry.")


class Participants(Part):
    """Who took part, as far as it may be told: numbers alone are enough."""

    count: StrictInt | None = Field(None, ge=0, le=1_000_000)
    names_withheld: StrictBool = Field(True, description="True: who took part is left untold on purpose.")
    kinds: list[ParticipantKind] = Field(default_factory=list, max_length=10)
    regions: list[RegionCode] = Field(default_factory=list, max_length=10, description="Where they came from.")
    note: Note | None = None


class Objective(Part):
    """Something the event set out to reach."""

    text: Note
    reached: StrictBool | None = Field(None, description="Null: not yet assessed.")


class EventBody(Body):
    """A gathering: what, when, where, by whom, what for, what came of it."""

    event_type: EventType | None = Field(None, description="Needed to publish.")
    period: Period | None = Field(None, description="When it took place; without it, publishing needs `date_note`.")
    date_note: Note | None = Field(None, description="What is known of the date, where it is unsure or disputed.")
    place: Name | None = Field(None, description="Town or area; its country goes in `countries`.")
    online: StrictBool = Field(False, description="True: held wholly or partly online.")
    level: Level | None = None
    series: Name | None = Field(None, description="Name of the series the event belongs to.")
    series_number: StrictInt | None = Field(None, ge=1, le=100_000, description="Its place in the series.")
    functions: list[FunctionId] = Field(default_factory=list, max_length=6)
    purpose: Text | None = Field(None, description="What it was held for.")
    roles: list[Role] = Field(default_factory=list, max_length=100)
    participants: Participants | None = None
    objectives: list[Objective] = Field(default_factory=list, max_length=50)
    outcomes: list[Note] = Field(default_factory=list, max_length=50)


def role_names_someone(event: EventBody, envelope: Envelope) -> Iterator[Fault]:
    """A role is held by an organisation with an entry or by one called by its name, not by both and not by neither."""
    for index, role in enumerate(event.roles):
        if (role.organisation is None) == (role.name is None):
            yield Fault(f"/roles/{index}", "organisation-or-name")


def series_number_has_series(event: EventBody, envelope: Envelope) -> Iterator[Fault]:
    """A number counts within a series, so the series is named."""
    if event.series_number is not None and event.series is None:
        yield Fault("/series", "series-required")


EVENTS = Kind(
    name="event",
    plural="events",
    body=EventBody,
    description="Consultations, meetings, trainings and dialogues, with roles, objectives and outcomes.",
    filters={"event_type": "event_type", "series": "series", "function": "functions", "level": "level"},
    required=("event_type", "period|date_note"),
    rules=(role_names_someone, series_number_has_series),
    sort="period",
    example={
        "title": "Dialogue on community policing",
        "language": "en",
        "summary": "Two days in which police officers, councillors and residents of three districts spoke about "
        "patrols, complaints and trust.",
        "countries": ["LR"],
        "topics": ["community-policing", "police"],
        "event_type": "dialogue",
        "period": {"start": "2026-03-10", "end": "2026-03-11"},
        "place": "Example Town",
        "online": False,
        "level": "local",
        "series": "District dialogues",
        "series_number": 2,
        "functions": ["h-dialogue"],
        "purpose": "Find out what residents and officers expect of each other.",
        "roles": [{"organisation": None, "role": "convenor", "name": "Example CSO A"}],
        "participants": {
            "count": 45,
            "names_withheld": True,
            "kinds": ["civil-society-organisation", "public-institution"],
            "regions": ["AFR"],
        },
        "objectives": [{"text": "Agree how residents learn what became of a complaint.", "reached": True}],
        "outcomes": ["A monthly public hour at each of the three stations."],
    },
)
