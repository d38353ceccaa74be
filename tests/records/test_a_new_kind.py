"""Adding a kind is one file and one line: a kind nobody has heard of, under all the tests of the machinery."""

import inspect
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import Field

import app.main
from app.http.openapi import build_document
from app.kinds import KINDS
from app.records.fields import Name, Part, Period, RefTo
from app.records.kind import Body, Kind
from app.settings import Settings
from tests.conftest import MakeOrganisation
from tests.records import test_records as machinery
from tests.visibility.test_matrix import ON_EVERY_KIND, compare, compare_forms
from tests.visibility.world import world_of

pytestmark = pytest.mark.anyio


class Mood(StrEnum):
    CALM = "calm"
    LOUD = "loud"


class Verse(Part):
    """A part of a song."""

    issue: Annotated[UUID, RefTo("issue")] | None = None
    words: Name


class SongBody(Body):
    """Nothing the service has a word for."""

    mood: Mood | None = None
    period: Period | None = None
    verses: list[Verse] = Field(default_factory=list, max_length=20)


SONGS = Kind(
    name="protest-song",
    plural="protest-songs",
    body=SongBody,
    description="Songs.",
    filters={"mood": "mood", "issue": "verses"},
    required=("mood",),
    example={
        "title": "Song of the example square",
        "language": "en",
        "summary": "Sung on the example square.",
        "mood": "loud",
        "period": {"start": "2026", "end": None},
        "verses": [{"issue": None, "words": "La la"}],
    },
)

FIXTURES = {"app", "client", "make_organisation", "kind"}
TESTS = sorted(
    name
    for name, test in vars(machinery).items()
    if name.startswith("test_") and "kind" in inspect.signature(test).parameters
)


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The application of these tests has one more line in its tuple of kinds."""
    monkeypatch.setattr(app.main, "KINDS", (*KINDS, SONGS))
    return settings


@pytest.mark.parametrize("name", TESTS)
async def test_the_machinery_holds_for_it(
    name: str, app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    test = getattr(machinery, name)
    given: dict[str, Any] = {"app": app, "client": client, "make_organisation": make_organisation, "kind": SONGS}
    wanted = set(inspect.signature(test).parameters)
    assert wanted <= FIXTURES, "give this fixture here too"
    await test(**{parameter: given[parameter] for parameter in wanted})


async def test_the_matrix_holds_for_it(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    async with world_of(app, client, make_organisation, SONGS, small=True) as world:
        await compare_forms(world)
        await compare(world, ON_EVERY_KIND)


async def test_its_operations_and_its_own_filters_are_there(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    paths = build_document(app)["paths"]
    of_a_known_kind = {path.replace("/v1/findings", "") for path in paths if path.startswith("/v1/findings")}
    assert {path.replace("/v1/protest-songs", "") for path in paths if "protest-songs" in path} >= of_a_known_kind
    owner = await make_organisation()
    issue = await client.post("/v1/issues", json={"title": "An issue", "language": "en"}, headers=owner.headers)
    body = {**SONGS.example, "verses": [{"issue": issue.json()["id"], "words": "Why"}]}
    song = await client.post("/v1/protest-songs", json=body, headers=owner.headers)
    assert song.status_code == 201, song.text
    for query, count in (("mood=loud", 1), ("mood=calm", 0), (f"issue={issue.json()['id']}", 1)):
        found = await client.get(f"/v1/protest-songs?{query}&count=true", headers=owner.headers)
        assert found.json()["total"] == count, found.text


def test_the_machinery_is_all_here() -> None:
    assert len(TESTS) >= 8
