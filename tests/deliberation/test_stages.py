"""Stages of lists: legal moves, quorum, superseding, differences; charters and their settings; actions."""

from typing import Any

import pytest

from app.identity.caller import SCOPES
from tests.conftest import MakeOrganisation, Member
from tests.deliberation.community import Community


async def ranked(here: Community, list_id: str, issues: dict[str, str], order: str = "ABCDE") -> int:
    """Ranks the list by all members in this order, and gives its version."""
    round_id = await here.open_round(list_id)
    for voters in here.members.values():
        for voter in voters:
            tiers = [[issues[name]] for name in order]
            await here.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": tiers})
    await here.close(round_id)
    return int((await here.get(f"/v1/issue-lists/{list_id}", here.convenor))["version"])


async def adopt(here: Community, list_id: str, version: int, status: int = 200, body: Any = None) -> dict[str, Any]:
    path = f"/v1/issue-lists/{list_id}/adopt"
    return await here.post(path, here.convenor, body, status, **{"If-Match": f'"{version}"'})


async def test_illegal_moves_name_the_legal_ones(community: Community) -> None:
    list_id = await community.issue_list(await community.issues())
    path = f"/v1/issue-lists/{list_id}/stage"
    refused = await community.post(path, community.convenor, {"stage": "adopted"}, 409)
    assert (refused["code"], refused["stage"]) == ("illegal-transition", "draft")
    assert refused["legal"] == ["consultation", "endorsement", "ranking"]
    assert "consultation, endorsement, ranking" in refused["detail"]
    refused = await community.post(path, community.convenor, {"stage": "endorsement"}, 409)
    assert "rounds" in refused["detail"]
    stale = await community.post(path, community.convenor, {"stage": "consultation"}, 412, **{"If-Match": '"7"'})
    assert stale["code"] == "stale-version"
    await community.post(path, community.convenor, {"stage": "consultation"}, 200)
    await community.post(path, community.convenor, {"stage": "lapsed"}, 200)
    body = {"stage": "ranking", "ballot_display": "open"}
    refused = await community.post(f"/v1/issue-lists/{list_id}/rounds", community.convenor, body, 409)
    assert (refused["code"], refused["legal"]) == ("illegal-transition", [])
    refused = await community.post(path, community.members["AFR"][0], {"stage": "consultation"}, 403)
    assert refused["code"] == "not-owner"
    back = await community.post(path, community.convenor, {"stage": "draft"}, 409)
    assert (back["code"], back["legal"]) == ("illegal-transition", [])
    await community.post(path, community.convenor, {"stage": "dropped"}, 422)


async def test_a_draft_cannot_be_voted_on(community: Community) -> None:
    body = {"title": "A list", "language": "en"}
    draft = await community.post("/v1/issue-lists", community.convenor, body)
    new = {"stage": "ranking", "ballot_display": "open"}
    refused = await community.post(f"/v1/issue-lists/{draft['id']}/rounds", community.convenor, new, 409)
    assert refused["code"] == "illegal-transition"


async def test_without_quorum_a_list_is_not_adopted_but_may_lapse(community: Community) -> None:
    issues = await community.issues()
    list_id = await community.issue_list(issues)
    round_id = await community.open_round(list_id)
    await community.put(f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0], {"tiers": [[issues["A"]]]})
    assert (await adopt(community, list_id, 2, 409))["code"] == "round-open"
    await community.close(round_id)
    result = await community.get(f"/v1/rounds/{round_id}/result", community.members["AFR"][0])
    assert not result["quorum"]["met"]
    assert (await adopt(community, list_id, 2, 409))["code"] == "no-quorum"
    moved = await community.post(f"/v1/issue-lists/{list_id}/stage", community.convenor, {"stage": "lapsed"}, 200)
    assert moved["stage"] == "lapsed"


async def test_adopting_needs_the_version_and_the_owner(community: Community) -> None:
    issues = await community.issues()
    list_id = await community.issue_list(issues)
    version = await ranked(community, list_id, issues)
    path = f"/v1/issue-lists/{list_id}/adopt"
    assert (await community.post(path, community.convenor, status=428))["code"] == "precondition-required"
    assert (await adopt(community, list_id, version + 1, 412))["code"] == "stale-version"
    assert (await community.post(path, community.members["AFR"][0], status=403))["code"] == "not-owner"


async def test_a_list_changed_after_its_round_is_not_adopted(community: Community) -> None:
    issues = await community.issues()
    list_id = await community.issue_list(issues)
    version = await ranked(community, list_id, issues)
    items = [{"issue": issues[name]} for name in "ABCD"]
    headers = {**community.convenor.headers, "If-Match": f'"{version}"'}
    await community.client.patch(f"/v1/issue-lists/{list_id}", json={"items": items}, headers=headers)
    assert (await adopt(community, list_id, version + 1, 409))["code"] == "list-changed"


async def test_a_new_list_supersedes_the_old_one_and_both_can_be_compared(community: Community) -> None:
    issues = await community.issues()
    first = await community.issue_list(issues)
    await adopt(community, first, await ranked(community, first, issues, "BACDE"))
    second = await community.issue_list({name: issues[name] for name in "ABCD"})
    version = await ranked(community, second, issues, "CABD")
    await adopt(community, second, version, body={"supersedes": first})
    old = await community.get(f"/v1/issue-lists/{first}")
    assert old["stage"] == "superseded"
    assert [item["issue"] for item in old["items"]] == [issues[name] for name in "BACDE"]
    found = await community.get(f"/v1/issue-lists/{first}/diff/{second}")
    assert [one["issue"] for one in found["removed"]] == [issues["E"]]
    assert found["added"] == []
    assert {one["title"]: (one["from_place"], one["to_place"]) for one in found["moved"]} == {
        "Issue C": (3, 1),
        "Issue B": (1, 3),
    }
    assert found["unchanged"] == 2


@pytest.fixture
async def steward(make_organisation: MakeOrganisation) -> Member:
    return await make_organisation("Example secretariat", scopes=SCOPES)


async def adopted_charter(here: Community, steward: Member, **settings: Any) -> dict[str, Any]:
    """An adopted charter of working mechanisms with these settings."""
    made = await here.record(
        "charters", steward, "Working mechanisms", part="working-mechanisms", text="How we work.", settings=settings
    )
    record = {"adopted_on": "2026-01-15", "minutes": "By all, at the meeting."}
    return await here.post(f"/v1/charters/{made['id']}/adopt", steward, record, 200, **{"If-Match": '"1"'})


async def test_a_charter_sets_what_votes_and_trends_use_and_is_cited(community: Community, steward: Member) -> None:
    assert (await community.get("/v1/analysis/trends"))["settings_source"] == "defaults"
    charter = await adopted_charter(community, steward, alpha=1, q=1, quorum_regions=1, trends={"regions": 2})
    cited = {"id": charter["id"], "version": charter["version"]}
    assert (charter["stage"], charter["adopted_on"]) == ("adopted", "2026-01-15")
    found = await community.get("/v1/analysis/trends")
    assert (found["charter"], found["settings_source"], found["settings"]["regions"]) == (cited, "charter", 2)
    issues = await community.issues()
    list_id = await community.issue_list(issues)
    round_id = await community.open_round(list_id)
    later = await adopted_charter(community, steward, consultation_days=21)
    await community.put(f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0], {"tiers": [[issues["A"]]]})
    await community.close(round_id)
    result = await community.get(f"/v1/rounds/{round_id}/result", community.members["AFR"][0])
    assert (result["charter"], result["settings"]["alpha"], result["quorum"]["met"]) == (cited, 1, True)
    other = await community.issue_list(issues)
    body = {"stage": "ranking", "ballot_display": "open"}
    refused = await community.post(f"/v1/issue-lists/{other}/rounds", community.convenor, body, 409)
    assert "21 days" in refused["detail"]
    assert (await community.get("/v1/charters/in-force/settings"))["charter"]["id"] == later["id"]


async def test_an_adopted_charter_never_changes(community: Community, steward: Member) -> None:
    charter = await adopted_charter(community, steward)
    headers = {**steward.headers, "If-Match": f'"{charter["version"]}"'}
    for method, body in (("PATCH", {"text": "Other."}), ("PATCH", {"tlp": "amber"}), ("DELETE", None)):
        answer = await community.client.request(method, f"/v1/charters/{charter['id']}", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "illegal-transition")


async def test_only_a_steward_records_an_adoption_and_no_draft_claims_one(
    community: Community, steward: Member
) -> None:
    member = community.members["AFR"][0]
    made = await community.record("charters", member, "Mission", part="mission-vision", text="What for.")
    record = {"adopted_on": "2026-01-15", "minutes": "By all."}
    path = f"/v1/charters/{made['id']}/adopt"
    await community.post(path, member, record, 403, **{"If-Match": '"1"'})
    assert (await community.post(path, steward, record, 403, **{"If-Match": '"1"'}))["code"] == "not-owner"
    body: dict[str, Any] = {**made_of("mission-vision"), "adopted_on": "2026-01-15"}
    assert (await community.post("/v1/charters", member, body, 422))["errors"][0]["pointer"] == "/adopted_on"
    other: dict[str, Any] = {**made_of("mission-vision"), "settings": {"q": 3}}
    assert (await community.post("/v1/charters", member, other, 422))["errors"][0]["pointer"] == "/settings"
    for settings in ({"alpha": 2}, {"endorsement_share": "3/2"}, {"voting_kinds": ["donor"]}, {"q": 0}, {"alpha": "0"}):
        body = {**made_of("working-mechanisms"), "settings": settings}
        assert (await community.post("/v1/charters", steward, body, 422))["code"] == "invalid-body"


def made_of(part: str) -> dict[str, Any]:
    """A draft of this part of a charter."""
    return {"title": "Charter", "language": "en", "part": part, "text": "What we agreed."}


async def test_an_action_is_agreed_on_adopted_issues_by_all_partners(community: Community) -> None:
    issues = await community.issues()
    list_id = await community.issue_list(issues)
    owner, partner, stranger = community.members["AFR"][0], community.members["LAC"][0], community.members["EUR"][0]
    period = {"start": "2027-03-15", "end": "2028-03-14"}
    fields = {"issues": [issues["A"]], "partners": [str(partner.id)], "period": period, "pilot": True}
    action = await community.record("actions", owner, "A pilot", **fields)
    path = f"/v1/actions/{action['id']}"
    refused = await community.post(f"{path}/stage", owner, {"stage": "agreed"}, 422)
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("issue-not-adopted", "/issues/0")
    await adopt(community, list_id, await ranked(community, list_id, issues))
    assert (await community.post(f"{path}/stage", owner, {"stage": "agreed"}, 409))["code"] == "partners-not-agreed"
    assert (await community.put(f"{path}/partners/me", stranger, {}, 403))["code"] == "not-permitted"
    await community.put(f"{path}/partners/me", partner, {})
    shown = await community.get(f"{path}/partners", partner)
    assert [(one["organisation"]["id"], one["status"]) for one in shown["items"]] == [(str(partner.id), "accepted")]
    await community.post(f"{path}/stage", owner, {"stage": "agreed"}, 200)
    refused = await community.post(f"{path}/stage", owner, {"stage": "done"}, 409)
    assert refused["legal"] == ["running", "stopped"]
    # What the partners agreed to does not change under them; everything else may.
    later = (await community.issues(["F"]))["F"]
    headers = {**owner.headers, "If-Match": '"2"'}
    for change in ({"issues": [issues["A"], later]}, {"partners": []}):
        refused = await community.client.patch(path, json=change, headers=headers)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (409, "settled")
    changed = await community.client.patch(path, json={"title": "A better title"}, headers=headers)
    assert changed.status_code == 200, changed.text
    gaps = await community.get("/v1/analysis/gaps", owner, regions=1)
    assert {item["id"] for item in gaps["items"]} == {*issues.values(), later} - {issues["A"]}
    too_long = {"start": "2027-03", "end": "2028-03"}
    body = {"title": "P", "language": "en", "summary": "S.", "status": "published", "pilot": True, "period": too_long}
    assert (await community.post("/v1/actions", owner, body, 422))["errors"][0]["code"] == "pilot-too-long"
