"""Every filter a kind declares finds the record that has the value, and only that."""

from typing import Any, cast

import httpx
import pytest

from app.kinds import KINDS
from app.kinds.issues import ISSUES
from app.records.kind import Kind
from tests.conftest import MakeOrganisation


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: cast(Kind, kind).plural)
async def test_each_filter_finds_what_has_the_value(
    kind: Kind, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    member = await make_organisation("Example CSO A")
    answer = await client.post(
        f"/v1/{kind.plural}", json={**kind.example, "status": "published"}, headers=member.headers
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    plain = {"title": "Another", "language": "en"}
    assert (await client.post(f"/v1/{kind.plural}", json=plain, headers=member.headers)).status_code == 201
    references = {path.steps[0] for path in (*kind.refs, *kind.organisation_refs)}
    for name, field in kind.filters.items():
        if field in references:
            continue
        value = made[field][-1] if isinstance(made[field], list) else made[field]
        found = await client.get(f"/v1/{kind.plural}", params={name: value}, headers=member.headers)
        assert found.status_code == 200, found.text
        expected = 2 if field == "stage" else 1
        assert len(found.json()["items"]) == expected, name


async def test_reference_filters_find_those_that_refer(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    member = await make_organisation("Example CSO A")

    async def made(plural: str, **fields: Any) -> str:
        body = {"title": "A title", "language": "en", **fields}
        answer = await client.post(f"/v1/{plural}", json=body, headers=member.headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def found(address: str) -> list[str]:
        answer = await client.get(address, headers=member.headers)
        assert answer.status_code == 200, answer.text
        return [record["id"] for record in answer.json()["items"]]

    event, issue = await made("events"), await made("issues")
    finding = await made("findings", events=[event])
    citing = await made("issues", findings=[finding])
    case = await made("cases", issues=[citing])
    issue_list = await made("issue-lists", items=[{"issue": issue}, {"issue": citing}])
    assert await found(f"/v1/findings?event={event}") == [finding]
    assert await found(f"/v1/issues?finding={finding}") == [citing]
    assert await found(f"/v1/cases?issue={citing}") == [case]
    assert await found(f"/v1/cases?issue={issue}") == []
    assert await found(f"/v1/issue-lists?issue={issue}") == [issue_list]


async def test_an_unknown_filter_is_refused_with_the_known_ones(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/v1/{ISSUES.plural}", params={"outcome": "setback"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-parameter")
    assert all(name in answer.json()["detail"] for name in ISSUES.filters)
