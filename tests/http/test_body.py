"""Bodies are checked against a model; faults say where and what, never what was sent."""

import httpx
import pytest

from app.http.body import validated
from app.http.problem import Problem
from tests.http.small import Thing, problem


def faults(value: object) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        validated(Thing, value)
    assert caught.value.code == "invalid-body"
    assert "zq" not in repr((caught.value.detail, caught.value.errors))
    return [(fault.pointer, fault.code) for fault in caught.value.errors]


def test_faults_point_to_their_place() -> None:
    assert faults({}) == [("/title", "required")]
    assert faults({"title": ""}) == [("/title", "string-too-short")]
    assert faults({"title": 3}) == [("/title", "string-type")]
    assert faults({"title": "a", "parts": [{"note": "b"}, {"note": "zq" * 6}]}) == [
        ("/parts/1/note", "string-too-long")
    ]
    assert faults({"title": "a", "parts": [{}]}) == [("/parts/0/note", "required")]
    assert faults({"title": "a", "kind": "zq"}) == [("/kind", "invalid-id")]
    assert faults({"title": "a", "number": "zq"}) == [("/number", "invalid")]


def test_unknown_fields_stand_at_their_object() -> None:
    assert faults({"title": "a", "zq": 1}) == [("", "unknown-field")]
    assert faults({"title": "a", "parts": [{"note": "b", "zq": 1, "zq2": 2}]}) == [("/parts/0", "unknown-field")]


def test_names_of_free_members_are_not_repeated() -> None:
    assert faults({"title": "a", "labels": {"zq-2 ": "x"}}) == [("/labels", "invalid")]


def test_unknown_field_lists_the_known_ones() -> None:
    with pytest.raises(Problem) as caught:
        validated(Thing, {"title": "a", "zq": 1})
    assert caught.value.detail == "Known fields: kind, labels, number, parts, title."


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ('Application/JSON; charset="UTF-8"', 201),
        ("application/json; charset=utf-16", 415),
        ("application/merge-patch+json", 415),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain", 415),
        ("", 415),
    ],
)
async def test_media_types(things: httpx.AsyncClient, content_type: str, status: int) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await things.post("/v1/things", content=b'{"title": "a"}', headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert problem(answer)["code"] == "unsupported-media-type"
        assert answer.headers["accept"] == "application/json"


@pytest.mark.parametrize("body", [b"[]", b"1", b'"a"', b"null"])
async def test_a_body_is_an_object(things: httpx.AsyncClient, body: bytes) -> None:
    answer = await things.post("/v1/things", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert problem(answer)["errors"] == [{"pointer": "", "code": "object-required"}]


async def test_patch_names_what_it_takes(things: httpx.AsyncClient) -> None:
    answer = await things.patch("/v1/things/1", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.headers["accept-patch"] == "application/merge-patch+json, application/json"
