"""Every operation of the contract meets bad input with a problem that repeats nothing. Source: safety I1–I5, I13."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.http.discovery import document
from tests.conftest import SCOPES, MakeOrganisation

MARKER = "zqmarker"
ID = "01890000-0000-7000-8000-00000000000a"
OTHER_FORMS = ("/oauth/", "/.well-known/", "/docs", "/healthz", "/readyz", "/metrics", "/problems/")
"""Addresses with rules of their own: OAuth errors, and pages that ignore parameters."""

BODIES = {
    "syntax": f'{{"title": {MARKER}}}'.encode(),
    "duplicate keys": f'{{"title": "{MARKER}", "title": "{MARKER}"}}'.encode(),
    "NaN": f'{{"{MARKER}": NaN}}'.encode(),
    "lone surrogate": f'{{"title": "{MARKER}\\ud800"}}'.encode(),
    "NUL": f'{{"title": "{MARKER}\\u0000"}}'.encode(),
    "too deep": (f'{{"{MARKER}":' * 33 + "1" + "}" * 33).encode(),
    "unknown field": f'{{"{MARKER}": "{MARKER}"}}'.encode(),
    "array": f'["{MARKER}"]'.encode(),
    "UTF-16": f'{{"title": "{MARKER}"}}'.encode("utf-16"),
}


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document(app)["paths"].items():
        if not path.startswith(OTHER_FORMS):
            for method, operation in item.items():
                yield path, method.upper(), operation


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: ID if name[1] in ("id", "other") else "1", path)


@pytest.fixture
async def member(make_organisation: MakeOrganisation) -> dict[str, str]:
    made = await make_organisation("Example CSO A", scopes=SCOPES)
    return {**made.headers, "If-Match": '"1"'}


def wrong(answer: httpx.Response) -> str | None:
    """What is wrong with a refusal, if anything."""
    if not 400 <= answer.status_code < 500:
        return f"{answer.status_code}"
    if answer.headers["content-type"] != "application/problem+json":
        return answer.headers["content-type"]
    if MARKER in answer.text.lower() or MARKER in str(answer.headers).lower():
        return f"{answer.status_code} echoes"
    return None


async def test_unknown_parameters(app: FastAPI, client: httpx.AsyncClient, member: dict[str, str]) -> None:
    failed = {}
    for path, method, _ in operations(app):
        answer = await client.request(method, filled(path), params={MARKER: MARKER}, headers=member)
        if found := wrong(answer):
            failed[method, path] = found
        elif "{" not in path and method == "GET" and answer.json()["code"] != "invalid-parameter":
            failed[method, path] = answer.json()["code"]
    assert failed == {}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_bodies(app: FastAPI, client: httpx.AsyncClient, member: dict[str, str], name: str) -> None:
    failed = {}
    tried = 0
    for path, method, operation in operations(app):
        for media_type in operation.get("requestBody", {}).get("content", {}):
            if not re.fullmatch(r"application/(\S+\+)?json", media_type):
                continue
            tried += 1
            headers = {**member, "Content-Type": media_type}
            answer = await client.request(method, filled(path), content=BODIES[name], headers=headers)
            if found := wrong(answer):
                failed[method, path] = found
    assert failed == {}
    assert tried > 30


async def test_wrong_content_types(app: FastAPI, client: httpx.AsyncClient, member: dict[str, str]) -> None:
    failed = {}
    for path, method, operation in operations(app):
        content = operation.get("requestBody", {}).get("content", {})
        if content:
            for given in ("application/x-www-form-urlencoded", f"text/{MARKER}"):
                answer = await client.request(
                    method, filled(path), content=b'{"title": "a"}', headers={**member, "Content-Type": given}
                )
                if found := wrong(answer):
                    failed[method, path] = found
    assert failed == {}


async def test_what_takes_no_body_still_limits_it(
    app: FastAPI, client: httpx.AsyncClient, member: dict[str, str]
) -> None:
    large = b" " * 1_000_001
    for path, method, _ in operations(app):
        answer = await client.request(
            method, filled(path), content=large, headers={**member, "Content-Type": "application/json"}
        )
        assert answer.status_code in (413, 415, 404), (method, path, answer.status_code)


async def test_paths_hold_no_surprises(app: FastAPI, client: httpx.AsyncClient, member: dict[str, str]) -> None:
    failed = {}
    for path, method, _ in operations(app):
        for given in ("%00", "%0d%0aX-Injected:%20a", "%ff", "..%2f..%2fetc", MARKER, "-1", "9" * 400, "%F0%9F%98%80"):
            address = re.sub(r"\{\w+\}", given, path)
            if address != path:
                answer = await client.request(method, address, headers=member)
                if found := wrong(answer):
                    failed[method, path, given] = found
    assert failed == {}


SECURED_AND_PUBLIC = (135, 90)
PUBLIC_WRITES = {"claimOrganisation", "issueToken", "revokeToken", "introspectToken"}


async def test_every_operation_refuses_a_missing_token_or_is_declared_public(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    """What the contract says of security is what the service does; a new operation cannot be open by accident."""
    secured = declared_public = 0
    for path, method, operation in operations(app):
        if operation["security"] and {} not in operation["security"]:
            secured += 1
            answer = await client.request(method, filled(path), json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token"), (method, path)
        else:
            declared_public += 1
            assert method == "GET" or operation["operationId"] in PUBLIC_WRITES, (method, path)
    assert (secured, declared_public) == SECURED_AND_PUBLIC, "place the new operation, then count it here"
