"""Hidden is missing: what belongs to a list or an issue one may not read does not exist, on every surface."""

import re
from typing import Any

import httpx
import pytest

from tests.conftest import Member
from tests.deliberation.community import Community
from tests.visibility.surfaces import DELIBERATION_SURFACES

MISSING = "01980d9e-7a00-7000-8000-000000000009"
BALLOT = {"tiers": [[MISSING]]}

SURFACES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/v1/issues/{issue}/trail", None),
    ("GET", "/v1/issues/{issue}/endorsements", None),
    ("PUT", "/v1/issues/{issue}/endorsements/me", {"position": "yes"}),
    ("DELETE", "/v1/issues/{issue}/endorsements/me", None),
    ("POST", "/v1/issue-lists/{list}/stage", {"stage": "consultation"}),
    ("POST", "/v1/issue-lists/{list}/adopt", {}),
    ("GET", "/v1/issue-lists/{list}/diff/{list}", None),
    ("GET", "/v1/issue-lists/{list}/rounds", None),
    ("POST", "/v1/issue-lists/{list}/rounds", {"stage": "ranking", "ballot_display": "open"}),
    ("GET", "/v1/rounds/{round}", None),
    ("GET", "/v1/rounds/{round}/result", None),
    ("GET", "/v1/rounds/{round}/result?alpha=1", None),
    ("GET", "/v1/rounds/{round}/ballots", None),
    ("GET", "/v1/rounds/{round}/ballots/me", None),
    ("PUT", "/v1/rounds/{round}/ballots/me", BALLOT),
    ("DELETE", "/v1/rounds/{round}/ballots/me", None),
    ("POST", "/v1/rounds/{round}/close", None),
    ("POST", "/v1/charters/{charter}/adopt", {"adopted_on": "2026-01-01", "minutes": "x"}),
    ("GET", "/v1/actions/{action}/partners", None),
    ("PUT", "/v1/actions/{action}/partners/me", None),
    ("DELETE", "/v1/actions/{action}/partners/me", None),
    ("POST", "/v1/actions/{action}/stage", {"stage": "agreed"}),
)


def test_every_surface_that_names_a_record_is_attacked() -> None:
    def shape(path: str) -> str:
        return re.sub(r"\{[a-z]+\}", "{}", path.partition("?")[0])

    counted = {("GET", f"/v1/analysis/{name}") for name in ("trends", "similarity", "gaps")}
    attacked = {(method, shape(path)) for method, path, _ in SURFACES}
    assert attacked == {(method, shape(path)) for method, path in DELIBERATION_SURFACES - counted}


async def asked(client: httpx.AsyncClient, who: Member | None, surface: tuple[str, str, Any], ids: Any) -> Any:
    method, path, body = surface
    headers = {} if who is None else who.headers
    answer = await client.request(method, path.format_map(ids), json=body, headers={**headers, "If-Match": '"1"'})
    told = answer.json()
    told.pop("request_id")
    kept = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
    return answer.status_code, kept, told


@pytest.mark.parametrize("closed", [False, True])
async def test_hidden_and_missing_get_the_same_answer(community: Community, closed: bool) -> None:
    owner = community.convenor
    friend, stranger = community.members["AFR"][0], community.members["LAC"][0]
    marked = {"tlp": "amber", "audience": [str(friend.id)]}
    finding = await community.record("findings", owner, "F", finding_type="need", regions=["AFR"], **marked)
    issue = await community.record("issues", owner, "I", findings=[finding["id"]], **marked)
    listed = await community.record("issue-lists", owner, "L", items=[{"issue": issue["id"]}], **marked)
    round_id = await community.open_round(listed["id"])
    await community.put(f"/v1/rounds/{round_id}/ballots/me", friend, {"tiers": [[issue["id"]]]})
    if closed:
        await community.close(round_id)
    action = await community.record("actions", owner, "A", period="2027", partners=[str(stranger.id)], **marked)
    charter = await community.record("charters", owner, "C", part="mission-vision", text="x", **marked)
    hidden = {
        "issue": issue["id"],
        "list": listed["id"],
        "round": round_id,
        "action": action["id"],
        "charter": charter["id"],
    }
    missing = dict.fromkeys(hidden, MISSING)
    for surface in SURFACES:
        for who in (stranger, None):
            found = await asked(community.client, who, surface, hidden)
            assert found == await asked(community.client, who, surface, missing), surface
            assert found[0] in (401, 403, 404), surface
    seen = await community.get(f"/v1/rounds/{round_id}", friend)
    assert seen["issues"] == [issue["id"]]
    answer = await community.client.get(f"/v1/rounds/{round_id}", headers=friend.headers)
    assert answer.headers["cache-control"] == "private, no-store"
