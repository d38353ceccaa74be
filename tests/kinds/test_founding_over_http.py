"""The founding data as a stranger without a token reads them."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.kinds import founding


@pytest.fixture
async def stranger(app: FastAPI, client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client without a token, of a service that has the founding data."""
    await founding.load(app.state.database)
    return client


async def items(client: httpx.AsyncClient, address: str) -> list[dict[str, Any]]:
    answer = await client.get(address)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def full(client: httpx.AsyncClient, brief: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(brief["url"])
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_numbers_of_records(stranger: httpx.AsyncClient) -> None:
    plurals = ("events", "findings", "issues", "issue-lists", "resources", "cases")
    assert [len(await items(stranger, f"/v1/{plural}")) for plural in plurals] == [10, 10, 12, 1, 2, 0]


async def test_events_in_order_of_date(stranger: httpx.AsyncClient) -> None:
    starts = [(event["period"] or {}).get("start") for event in await items(stranger, "/v1/events")]
    assert starts == [*sorted(start for start in starts if start), None]


FILTERED = {
    "/v1/events?event_type=consultation": 6,
    "/v1/events?event_type=consultation&event_type=launch-meeting": 7,
    "/v1/events?series=cop-consultations": 7,
    "/v1/events?country=MY": 2,
    "/v1/findings?region=AFR": 3,
    "/v1/findings?finding_type=observation": 4,
    "/v1/findings?topic=police": 2,
    "/v1/resources?product_type=comparative-atlas": 1,
    "/v1/resources?resource_type=product": 2,
    "/v1/issue-lists?stage=draft": 1,
    "/v1/issue-lists?stage=adopted": 0,
}


async def test_filters_of_the_kinds(stranger: httpx.AsyncClient) -> None:
    assert {address: len(await items(stranger, address)) for address in FILTERED} == FILTERED


async def test_references_filter_and_lead_back(stranger: httpx.AsyncClient) -> None:
    panama = next(event for event in await items(stranger, "/v1/events?country=PA"))
    assert len(await items(stranger, f"/v1/findings?event={panama['id']}")) == 10
    funding = (await items(stranger, "/v1/issues?topic=funding-access"))[0]
    findings = (await full(stranger, funding))["findings"]
    assert len(findings) == 2
    citing = await items(stranger, f"/v1/issues?finding={findings[0]}")
    assert [issue["id"] for issue in citing] == [funding["id"]]
    lists = await items(stranger, f"/v1/issue-lists?issue={funding['id']}")
    assert len(lists) == 1
    listed = [item["issue"] for item in (await full(stranger, lists[0]))["items"]]
    assert len(listed) == 12
    assert funding["id"] in listed


async def test_sources_and_owner_are_shown(stranger: httpx.AsyncClient) -> None:
    for plural in ("events", "findings", "issues", "resources"):
        for brief in await items(stranger, f"/v1/{plural}"):
            record = await full(stranger, brief)
            assert record["organisation"]["name"] == "Founding data"
            assert (record["tlp"], record["status"], record["language"]) == ("clear", "published", "en")
            assert all(source["title"] and source["locator"] for source in record["sources"])
            assert record["sources"]


async def test_roles_name_entries_that_a_stranger_can_read(stranger: httpx.AsyncClient) -> None:
    berlin = next(event for event in await items(stranger, "/v1/events?country=DE"))
    record = await full(stranger, berlin)
    assert [role["role"] for role in record["roles"]] == ["host", "supporter", "funder"]
    assert len(record["objectives"]) == 4
    organisations = {role["organisation"] for role in record["roles"]}
    assert None not in organisations
    for organisation in organisations:
        answer = await stranger.get(f"/v1/organisations/{organisation}")
        assert (answer.status_code, answer.json()["status"]) == (200, "not-claimed")
