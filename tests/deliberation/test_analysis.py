"""Analysis over HTTP: who counts, when, for whom; suppression; forms of the answer; the founding data."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.conftest import MakeOrganisation, Member, client_of, running_app
from tests.deliberation.community import Community


async def raise_it(here: Community, voter: Member, **fields: Any) -> str:
    """A published finding."""
    given = {"finding_type": "need", "regions": ["AFR"], "tlp": "clear", **fields}
    return str((await here.record("findings", voter, "A finding", **given))["id"])


async def one(here: Community, reader: Member | None = None, **parameters: Any) -> tuple[dict[str, int], Any]:
    """(n, the only concern) of trends."""
    found = await here.get("/v1/analysis/trends", reader, **parameters)
    assert len(found["items"]) == 1, found["items"]
    return found["n"], found["items"][0]


async def test_an_organisation_counts_once_and_nodes_and_unclaimed_entries_never(
    app: FastAPI, community: Community, make_organisation: MakeOrganisation
) -> None:
    node = await make_organisation("Example node", kind="node", country="KE")
    unclaimed = await make_organisation("Example entry", country="KE")
    cited = [await raise_it(community, voter) for voter in (*community.members["AFR"], node, unclaimed)]
    cited += [await raise_it(community, community.members["AFR"][0])]
    await community.record("issues", community.convenor, "An issue", findings=cited, tlp="clear")
    async with app.state.database.transaction() as connection:
        await connection.execute("UPDATE organisation SET status = 'not-claimed' WHERE id = %s", [unclaimed.id])
    n, issue = await one(community, community.members["LAC"][0])
    assert (n, issue["k"], issue["class"]) == ({"AFR": 2}, {"AFR": 2}, "insufficient")
    assert (issue["P"], issue["C"], issue["B"]) == (None, None, None)


async def test_only_what_the_caller_may_read_counts(community: Community) -> None:
    owner, friend, stranger = community.members["AFR"][0], community.members["LAC"][0], community.members["EUR"][0]
    secret = await raise_it(community, owner, tlp="amber", audience=[str(friend.id)], topics=["police"])
    issue = await community.record("issues", owner, "Hidden", findings=[secret], tlp="amber", audience=[str(friend.id)])
    for reader, seen in ((owner, True), (friend, True), (stranger, False), (None, False)):
        found = await community.get("/v1/analysis/trends", reader)
        assert (issue["id"] in str(found)) == seen
        assert found["n"] == ({"AFR": 1} if seen else {})
        topics = await community.get("/v1/analysis/trends", reader, dimension="topic")
        assert [item["id"] for item in topics["items"]] == (["police"] if seen else [])
        assert ("Hidden" in str(await community.get("/v1/analysis/gaps", reader, regions=1))) == seen


async def test_the_public_answer_leaves_small_regions_out(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    from tests.deliberation.community import gather

    here = await gather(client, make_organisation, {"AFR": 3, "LAC": 3, "EUR": 3, "MENA": 2})
    cited = [await raise_it(here, voter) for voters in here.members.values() for voter in voters]
    await here.record("issues", here.convenor, "An issue", findings=cited, tlp="clear")
    n, issue = await one(here)
    assert n == {"AFR": 3, "EUR": 3, "LAC": 3}
    assert issue["k"] == {"AFR": 3, "EUR": 3, "LAC": 3}
    found = await here.get("/v1/analysis/trends")
    assert found["suppressed_regions"] == ["ASI", "MENA", "OTH"]
    table = (await client.get("/v1/analysis/trends?format=csv")).text
    assert ",MENA,,,,,0.875,1.0,1.0,common,false,true" in table
    n, issue = await one(here, here.members["MENA"][0])
    assert (n["MENA"], issue["p"]["MENA"]) == (2, 0.8333)


async def test_periods_cut_by_the_contribution_and_as_of_by_the_revision(community: Community) -> None:
    voters = [voter for group in community.members.values() for voter in group]
    member = community.members["AFR"][0]
    issue = await community.record("issues", community.convenor, "An issue", tlp="clear")
    for number, voter in enumerate(voters):
        await community.record(
            "cases",
            voter,
            "A case",
            countries=["CD"],
            institutions=["police"],
            outcome="none",
            period=f"20{17 + number % 2}-06",
            tlp="green",
            issues=[issue["id"]],
        )
    between = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await community.put(f"/v1/issues/{issue['id']}/endorsements/me", voters[0], {"position": "yes"})
    await raise_it(community, community.members["MENA"][0])
    for period, total in (("2017", 4), ("2018", 3), ("2017..2018", 7), ("2017-07..", 4), ("..2016", 0)):
        n, found = await one(community, member, period=period)
        assert sum(found["k"].values()) == total, period
    assert sum((await one(community, member))[0].values()) == 7
    n, found = await one(community, member, as_of=between, period="2019..")
    assert (n, sum(found["k"].values())) == ({}, 0)
    n, found = await one(community, member, period="2026..")
    assert sum(found["k"].values()) == 1
    found = await community.get("/v1/analysis/trends", member, period="2018", compare="2017")
    assert set(found["items"][0]["change"]) == set(found["n"])
    assert {moved["direction"] for moved in found["items"][0]["change"].values()} == {"insufficient"}


async def test_as_of_shows_records_as_they_were(community: Community) -> None:
    member = community.members["AFR"][0]
    finding = await raise_it(community, member, topics=["police"])
    then = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    answer = await community.client.patch(
        f"/v1/findings/{finding}", json={"topics": ["armed-forces"]}, headers={**member.headers, "If-Match": '"1"'}
    )
    assert answer.status_code == 200, answer.text
    _, before = await one(community, member, dimension="topic", as_of=then)
    _, after = await one(community, member, dimension="topic")
    assert (before["id"], after["id"]) == ("police", "armed-forces")


async def test_functions_of_civil_society_are_a_dimension(community: Community) -> None:
    member = community.members["AFR"][0]
    await raise_it(community, member, topics=["h-dialogue", "police"])
    _, found = await one(community, member, dimension="cso-function")
    assert (found["id"], found["k"]) == ("h-dialogue", {"AFR": 1})
    assert found["title"]


@pytest.mark.parametrize(
    "query",
    [
        "dimension=x",
        "period=2019..2017",
        "period=..",
        "period=19",
        "period=2019-13",
        "period=2019-02-30",
        "as_of=2019",
        "limit=0",
        "format=pdf",
        "x=1",
    ],
)
async def test_bad_parameters_are_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/analysis/trends?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-parameter")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/csv", "text/csv"),
        ("image/svg+xml,*/*;q=0.1", "image/svg+xml"),
        ("text/plain", "text/plain"),
        ("text/html,application/json;q=0.9", "application/json"),
        ("*/*", "application/json"),
        ("text/csv;q=0, */*", "application/json"),
    ],
)
async def test_accept_chooses_the_form(client: httpx.AsyncClient, accept: str, wanted: str) -> None:
    answer = await client.get("/v1/analysis/trends", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(wanted)
    again = await client.get("/v1/analysis/trends", headers={"Accept": accept, "If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert (await client.get("/v1/analysis/trends", headers={"Accept": "text/html"})).status_code == 406


async def test_founding_data_answer_without_any_vote(settings: Any, database_url: str) -> None:
    from app.kinds import founding

    async with running_app(settings, database_url) as app, client_of(app) as client:
        await founding.load(app.state.database)
        issues = (await client.get("/v1/issues?limit=200")).json()["items"]
        trails = [(await client.get(f"/v1/issues/{issue['id']}/trail")).json() for issue in issues]
        assert len(trails) == 12
        assert {trail["consultations"] for trail in trails} == {6}
        raised = [trail for trail in trails if trail["raised_in"]]
        assert raised
        assert all(trail["first_on"] == "2017-07" for trail in raised if trail["raised_in"] == 6)
        found = (await client.get("/v1/analysis/trends")).json()
        assert {item["class"] for item in found["items"]} == {"insufficient"}
        assert len(found["items"]) == 12
        assert (await client.get("/v1/analysis/similarity")).json()["similarity"] == {}
