"""Query strings: known names, values that fit, nothing repeated by accident; refusals name what is known."""

from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from starlette.requests import Request

from app.http.problem import Problem
from app.http.query import query_parameters, read_query
from tests.http.small import KNOWN, problem


def read(query: str) -> dict[str, object]:
    return read_query(Request({"type": "http", "query_string": query.encode(), "headers": []}), KNOWN)


def test_defaults_when_nothing_is_sent() -> None:
    assert read("") == {
        "limit": 20,
        "sort": None,
        "region": (),
        "fields": None,
        "id": None,
        "count": False,
        "since": None,
    }


def test_values_are_read() -> None:
    found = read(
        "limit=200&sort=-title&region=AFR&region=LAC&fields=title,summary&count=true"
        "&id=01890000-0000-7000-8000-00000000000A&since=2026-01-31T12%3A00%3A00%2B02:00"
    )
    assert found == {
        "limit": 200,
        "sort": "-title",
        "region": ("AFR", "LAC"),
        "fields": ("title", "summary"),
        "count": True,
        "id": UUID("01890000-0000-7000-8000-00000000000a"),
        "since": datetime(2026, 1, 31, 10, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=",
        "limit=1e2",
        "limit=１",
        "limit=" + "9" * 4000,
        "limit=1&limit=2",
        "sort=name",
        "region=afr",
        "region=AFR&region=AFR&region=AFR&region=AFR",
        "fields=a,,b",
        "fields=a,b,c,d",
        "id={01890000-0000-7000-8000-00000000000A}",
        "id=1",
        "count=1",
        "since=2026-01-31",
        "since=2026-13-31T12:00:00Z",
        "since=2026-01-31T12:00:00",
        "nothing=1",
        "Limit=1",
        "limit%00=1",
        "region=A%00FR",
        "region=%ff",
        "%ff=1",
    ],
)
def test_refused(query: str) -> None:
    with pytest.raises(Problem) as caught:
        read(query)
    assert caught.value.code == "invalid-parameter"


async def test_unknown_parameter_lists_the_known_ones_without_repeating_it(things: httpx.AsyncClient) -> None:
    answer = await things.get("/v1/things", params={"zqmarker": "zqvalue"})
    assert answer.status_code == 400
    body = problem(answer)
    assert body["code"] == "invalid-parameter"
    assert "count, fields, id, limit, region, since, sort" in body["detail"]
    assert "zq" not in answer.text


def test_described_as_it_is_read() -> None:
    described = {parameter["name"]: parameter for parameter in query_parameters(KNOWN)}
    assert described["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 20}
    assert described["region"]["schema"]["type"] == "array"
    assert described["fields"]["explode"] is False
