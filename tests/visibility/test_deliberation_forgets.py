"""An issue that is narrowed, withdrawn or erased leaves the lists, rounds, ballots, results and counts of others."""

from typing import Any

import httpx
import pytest

from tests.conftest import MakeOrganisation
from tests.deliberation.community import Community, gather

pytestmark = pytest.mark.anyio

HIDING = ("amber", "withdraw", "erase")


async def hide(community: Community, issue: str, how: str) -> None:
    owner = {**community.convenor.headers, "If-Match": '"1"'}
    url = f"/v1/issues/{issue}"
    if how == "withdraw":
        answer = await community.client.delete(url, headers=owner)
    elif how == "erase":
        answer = await community.client.post(f"{url}/erase", headers=owner)
    else:
        answer = await community.client.patch(url, json={"tlp": "amber"}, headers=owner)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("how", HIDING)
@pytest.mark.parametrize("display", ["open", "anonymous"])
@pytest.mark.parametrize("closed", [True, False])
async def test_an_issue_hidden_after_the_vote_is_named_nowhere(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, how: str, display: str, closed: bool
) -> None:
    community = await gather(client, make_organisation, {"AFR": 3, "LAC": 3})
    issues = await community.issues(["A", "B", "C"])
    list_id = await community.issue_list(issues)
    round_id = await community.open_round(list_id, display=display)
    voters = [one for region in community.members.values() for one in region]
    for voter in voters:
        await community.put(
            f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issue] for issue in issues.values()]}
        )
    await community.put(f"/v1/issues/{issues['B']}/endorsements/me", voters[0], {"position": "yes"})
    if closed:
        await community.close(round_id)
    await hide(community, issues["B"], how)
    paths = (
        f"/v1/issue-lists/{list_id}",
        f"/v1/issue-lists/{list_id}/versions/1",
        f"/v1/issue-lists/{list_id}/diff/{list_id}",
        f"/v1/issue-lists/{list_id}/rounds",
        f"/v1/rounds/{round_id}",
        f"/v1/rounds/{round_id}/result",
        f"/v1/rounds/{round_id}/result?alpha=1",
        f"/v1/rounds/{round_id}/ballots",
        f"/v1/issues/{issues['B']}/trail",
        f"/v1/issues/{issues['B']}/endorsements",
        f"/v1/issues/{issues['A']}/trail",
        "/v1/analysis/trends?dimension=issue",
        "/v1/analysis/gaps",
        "/v1/analysis/similarity",
        "/v1/exports/issue-lists.ndjson",
        "/v1/changes?include=record",
    )
    for who in (voters[1], None):
        headers: dict[str, Any] = {} if who is None else who.headers
        for path in paths:
            answer = await client.get(path, headers=headers)
            text = answer.text
            assert answer.status_code < 500, path
            assert "Issue B" not in text, (path, text)
            if path.startswith("/v1/changes"):
                told = [one for one in answer.json()["items"] if one["id"] == issues["B"]]
                assert all("record" not in one and one["type"] == "removed" for one in told)
                text = "".join(str(one.get("record")) for one in answer.json()["items"])
            assert issues["B"] not in text, (path, text)
