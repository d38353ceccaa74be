"""Endorsements: a ledger that is only added to, its state at any date, and who sees what of it."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from tests.conftest import MakeOrganisation
from tests.deliberation.community import Community


async def test_the_state_at_any_date_is_kept(community: Community, database_url: str) -> None:
    issue = (await community.issues(["A"]))["A"]
    path, voter = f"/v1/issues/{issue}/endorsements", community.members["AFR"][0]
    moments = [datetime.now(UTC)]
    for position in ("yes", "no"):
        await community.put(f"{path}/me", voter, {"position": position})
        await community.put(f"{path}/me", voter, {"position": position})
        moments.append(datetime.now(UTC))
        await asyncio.sleep(0.002)
    assert (await community.client.delete(f"{path}/me", headers=voter.headers)).status_code == 204
    assert (await community.client.delete(f"{path}/me", headers=voter.headers)).status_code == 404
    seen = []
    for at in (*moments, datetime.now(UTC)):
        found = await community.get(path, voter, as_of=at.isoformat().replace("+00:00", "Z"))
        seen.append(None if found["mine"] is None else found["mine"]["position"])
    assert seen == [None, "yes", "no", None]
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute("SELECT position FROM endorsement ORDER BY seq").fetchall() == [
            ("yes",),
            ("no",),
            ("withdrawn",),
        ]
        with pytest.raises(psycopg.Error, match="only added"):
            connection.execute("DELETE FROM endorsement")


async def test_members_see_regions_the_public_a_total(
    community: Community, make_organisation: MakeOrganisation
) -> None:
    issue = (await community.issues(["A"]))["A"]
    path = f"/v1/issues/{issue}/endorsements"
    shown = await make_organisation("Example CSO shown", country="LR", listing="public")
    hidden = await make_organisation("Example CSO hidden", country="LR", listing="unlisted")
    await community.put(f"{path}/me", shown, {"position": "yes", "statement": "We agree.", "display": "public"})
    await community.put(f"{path}/me", community.members["LAC"][0], {"position": "yes"})
    await community.put(f"{path}/me", community.members["LAC"][1], {"position": "no", "statement": "Not here."})
    await community.put(f"{path}/me", hidden, {"position": "yes"})
    refused = await community.put(f"{path}/me", hidden, {"position": "yes", "display": "public"}, 409)
    assert refused["code"] == "owner-unlisted"
    public = await community.get(path)
    assert (public["total"], public["regions"]) == (2, 2)
    assert [item["organisation"]["name"] for item in public["items"]] == ["Example CSO shown"]
    assert "by_region" not in public
    member = await community.get(path, community.members["EUR"][0])
    assert member["by_region"] == {
        "AFR": {"yes": 1, "no": 0, "abstain": 0},
        "LAC": {"yes": 1, "no": 1, "abstain": 0},
    }
    assert {item["position"] for item in member["items"]} == {"yes", "no"}
    assert "hidden" not in str(member)
    assert (await community.get(path, hidden))["by_region"]["AFR"]["yes"] == 2


async def test_donors_do_not_endorse_and_drafts_are_not_endorsed(community: Community) -> None:
    issue = (await community.issues(["A"]))["A"]
    body = {"position": "yes"}
    refused = await community.put(f"/v1/issues/{issue}/endorsements/me", community.convenor, body, 403)
    assert refused["code"] == "not-permitted"
    voter = community.members["AFR"][0]
    draft = await community.post("/v1/issues", voter, {"title": "Draft", "language": "en"})
    refused = await community.put(f"/v1/issues/{draft['id']}/endorsements/me", voter, body, 409)
    assert refused["code"] == "illegal-transition"
    await community.put(f"/v1/issues/{draft['id']}/endorsements/me", community.members["LAC"][0], body, 404)
    await community.put(f"/v1/issues/{issue}/endorsements/me", voter, {"position": "maybe"}, 422)


async def test_what_was_public_once_is_not_shown_as_of_then(
    community: Community, make_organisation: MakeOrganisation
) -> None:
    """An organisation that takes its name or its endorsement back takes it out of the past too, for the public."""
    issue = (await community.issues(["A"]))["A"]
    path = f"/v1/issues/{issue}/endorsements"
    shown = [await make_organisation(f"Example CSO shown {n}", country="LR", listing="public") for n in range(3)]
    body = {"position": "yes", "statement": "We dare.", "display": "public"}
    for one in shown:
        given = await community.put(f"{path}/me", one, body)
    then = {"as_of": given["at"].replace("+00:00", "Z")}
    raised = await community.get("/v1/analysis/trends", None, **then)
    assert next(item for item in raised["items"] if item["id"] == issue)["k"] == {"AFR": 3}
    assert len((await community.get(path, None, **then))["items"]) == 3
    await community.put(f"{path}/me", shown[0], {**body, "display": "members"})
    await community.client.delete(f"{path}/me", headers=shown[1].headers)
    told = await community.get(path, None, **then)
    assert [item["organisation"]["name"] for item in told["items"]] == ["Example CSO shown 2"]
    assert (told["total"], told["regions"]) == (3, 1)
    assert (await community.get("/v1/analysis/trends", None, **then))["n"] == {}
    # Members read the ledger as it was.
    assert len((await community.get(path, community.members["LAC"][0], **then))["items"]) == 3


async def test_two_at_once_leave_one_meaning(community: Community, database_url: str) -> None:
    issue = (await community.issues(["A"]))["A"]
    voter = community.members["AFR"][0]
    path = f"/v1/issues/{issue}/endorsements/me"
    await asyncio.gather(*(community.put(path, voter, {"position": "yes"}) for _ in range(8)))
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM endorsement").fetchone() == (1,)
