"""The OpenAPI document: valid, equal to the committed one, and true about what every operation does."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, computed_field
from starlette.routing import Match

from app.cli.gate import CONTRACT, contract
from app.http.dispatch import index
from app.http.openapi import answer, build_document, public, request_body, responses, secured
from app.http.problem import CODES


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(contract())
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, method, operation) with the shared answers and parameters in their places."""

    def whole(entry: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in entry:
            return entry
        _, _, part, name = entry["$ref"].split("/")
        found: dict[str, Any] = document["components"][part][name]
        return found

    for path, item in document["paths"].items():
        for method, operation in item.items():
            answers = {status: whole(entry) for status, entry in operation["responses"].items()}
            parameters = [whole(entry) for entry in operation.get("parameters", [])]
            yield path, method, {**operation, "responses": answers, "parameters": parameters}


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_it_is_the_committed_one(document: dict[str, Any]) -> None:
    assert json.loads(CONTRACT.read_bytes()) == document, "run ./minga openapi --write"


async def test_it_is_the_served_one(document: dict[str, Any], client: httpx.AsyncClient) -> None:
    served = await client.get("/v1/openapi.json")
    assert served.json() == document
    again = await client.get("/v1/openapi.json", headers={"If-None-Match": served.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_nothing_of_the_framework_shows(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for word in ("HTTPValidationError", "x-declared", "x-codes", "minga:", "Successful Response"):
        assert word not in text


def test_operation_ids_are_unique_and_begin_with_a_verb(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids)) > 100
    assert [name for name in ids if not re.fullmatch("[a-z]+([A-Z][a-z0-9]*)*", name)] == []


def test_every_operation_says_who_may_call_it(document: dict[str, Any]) -> None:
    assert [path for path, _, operation in operations(document) if "security" not in operation] == []


def test_every_refusal_is_a_problem_with_known_codes(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, refusal in operation["responses"].items():
            if status < "400" or "application/problem+json" not in refusal.get("content", {}):
                assert status < "400" or path.startswith(("/oauth/", "/readyz")), (method, path, status)
                continue
            media = refusal["content"]["application/problem+json"]
            assert media["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert {str(CODES[code][0]) for code in media["examples"]} == {status}


def test_secured_operations_name_401_and_403(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        scopes = [scope for choice in operation["security"] for names in choice.values() for scope in names]
        if operation["security"] and not path.startswith("/oauth/"):
            assert "401" in operation["responses"], (method, path)
        if scopes:
            assert "403" in operation["responses"], (method, path)
            assert (
                set(scopes)
                <= document["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]["scopes"].keys()
            )


def test_the_problem_schema_has_every_code(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["Problem"]
    assert problem["properties"]["code"]["enum"] == sorted(CODES)


def test_every_answer_names_the_request(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, given in operation["responses"].items():
            assert "X-Request-Id" in given["headers"], (method, path, status)


def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        named = {entry["name"] for entry in operation.get("parameters", []) if entry["in"] == "path"}
        assert named == set(re.findall(r"\{([^}]+)\}", path)), (method, path)


class Wanted(BaseModel):
    """A model whose two forms differ."""

    title: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        """Only what comes back has it."""
        return len(self.title)


def test_two_forms_of_a_model_get_two_names() -> None:
    app = FastAPI()

    @app.post(
        "/v1/wanted/{id}",
        operation_id="makeWanted",
        responses=responses({201: answer(Wanted, "Made.", headers=("ETag",)), 204: None}, "conflict"),
        openapi_extra=secured("records:write") | request_body(Wanted, {"title": "a"}),
    )
    async def make() -> None: ...

    @app.get("/v1/open", operation_id="getOpen", responses=responses({200: None}), openapi_extra=public())
    async def get() -> None: ...

    made = build_document(app)
    operation = made["paths"]["/v1/wanted/{id}"]["post"]
    assert list(operation["responses"]) == [
        "201", "204", "400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503", "507",
    ]  # fmt: skip
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/WantedInput")
    assert operation["responses"]["201"]["content"]["application/json"]["schema"]["$ref"].endswith("/WantedOutput")
    assert {"WantedInput", "WantedOutput", "Problem", "Fault"} == made["components"]["schemas"].keys()
    assert "401" not in made["paths"]["/v1/open"]["get"]["responses"]
    assert build_document(app) == made


def test_an_unknown_code_cannot_be_declared() -> None:
    with pytest.raises(LookupError):
        responses({200: None}, "no-such-code")


async def test_the_index_finds_what_the_framework_finds(app: FastAPI) -> None:
    known = index(app.router.routes)
    indexed = 0
    for key, routes in known.items():
        for route, _ in routes:
            path = re.sub(r"\{[^}]+\}", "01890000-0000-7000-8000-00000000000a", route.path)
            scope = {"type": "http", "method": key[0], "path": path, "headers": [], "root_path": ""}
            first = next(other for other in app.router.routes if other.matches(dict(scope))[0] is Match.FULL)
            chosen = next(other for other, _ in routes if other.matches(dict(scope))[0] is Match.FULL)
            assert first is chosen
            indexed += 1
    assert indexed > 0.8 * len([route for route in app.router.routes if isinstance(route, APIRoute)])
