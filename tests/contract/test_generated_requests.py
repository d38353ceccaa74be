"""Requests generated from the contract, by each kind of principal: no 5xx, and every answer is as declared."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.http.openapi import build_document
from app.identity import credentials, organisations
from app.identity.caller import SCOPES
from app.kinds import KINDS
from app.settings import Settings
from tests.conftest import SCOPES as MEMBER_SCOPES
from tests.conftest import client_of, running_app
from tests.records.bodies import publishable

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
ONE_KIND = "findings"
LEFT_OUT = re.compile(r"^/(metrics|docs)|/leave$|/erase$")
"""Guarded by address, not JSON, or the end of the principal itself."""


@dataclass(slots=True)
class Service:
    """The service in an event loop of its own, since generated tests are not asynchronous."""

    runner: asyncio.Runner
    client: httpx.AsyncClient
    document: dict[str, Any]
    headers: dict[str, dict[str, str]]
    ids: list[str]


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Service:
            chosen = Settings(data_dir=tmp_path / "data", founding_data=False, rate_limit="off", pool_size=4)
            app = await stack.enter_async_context(running_app(chosen, database_url))
            client = await stack.enter_async_context(client_of(app))
            headers: dict[str, dict[str, str]] = {"anonymous": {}}
            ids = []
            for name, scopes in (("member", MEMBER_SCOPES), ("steward", SCOPES)):
                async with app.state.database.transaction() as connection:
                    one = await organisations.add(connection, name=f"Example {name}", kind="academia")
                    made = await credentials.add(
                        connection, app.state.secret, organisation_id=one.id, label="test", scopes=scopes
                    )
                token = await client.post(
                    "/oauth/token",
                    data={"grant_type": "client_credentials"},
                    auth=(made["client_id"], made["client_secret"]),
                )
                headers[name] = {"Authorization": f"Bearer {token.json()['access_token']}"}
            for kind in KINDS:
                for tlp in ("clear", "amber"):
                    body = publishable(kind, tlp=tlp)
                    made = await client.post(f"/v1/{kind.plural}", json=body, headers=headers["member"])
                    ids.append(made.json()["id"])
            return Service(runner, client, build_document(app), headers, ids)

        started = runner.run(start())
        try:
            yield started
        finally:
            runner.run(stack.aclose())


def generated(service: Service, principal: str, examples: int, *, every_kind: bool) -> list[str]:
    """What was wrong, over every operation; each asked with generated values and with the ids of real records."""
    schema = schemathesis.openapi.from_dict(service.document)
    others = tuple(f"/v1/{kind.plural}" for kind in KINDS if kind.plural != ONE_KIND)
    wrong: list[str] = []
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        own_kind = not operation.path.startswith(others) and not operation.path.startswith("/v1/exports/")
        if LEFT_OUT.search(operation.path) or not (every_kind or own_kind or operation.path.endswith("{id}/rounds")):
            continue

        def call(case: Any) -> None:
            nonlocal asked
            asked += 1
            parameters = case.path_parameters or {}
            if asked % 2 and "id" in parameters and service.ids:
                case.path_parameters = {**parameters, "id": service.ids[asked % len(service.ids)]}
            sent = case.as_transport_kwargs(base_url="http://minga.test")
            sent = {name: sent[name] for name in ("method", "url", "params", "json", "data") if name in sent}
            kwargs = {**sent, "headers": {**dict(case.headers or {}), **service.headers[principal]}}
            if case.media_type and not isinstance(kwargs.get("json"), type(None)):
                kwargs["headers"]["Content-Type"] = case.media_type
            if isinstance(kwargs.get("data"), bytes | str):
                kwargs["content"] = kwargs.pop("data")
            answer = service.runner.run(service.client.request(**kwargs))
            case.validate_response(answer, checks=CHECKS)

        test = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=examples < 20,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )(given(case=operation.as_strategy())(call))
        try:
            test()
        except (Exception, BaseExceptionGroup) as error:
            wrong.append(f"{operation.method.upper()} {operation.path}: {_shortly(error)}")
    assert asked > 50
    return wrong


def _shortly(error: BaseException) -> str:
    inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
    return f"{type(inner).__name__}: {str(inner)[:600]}"


@pytest.mark.parametrize("principal", ["anonymous", "member", "steward"])
def test_generated_requests_are_answered_as_declared(service: Service, principal: str) -> None:
    wrong = generated(service, principal, 3, every_kind=False)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("principal", ["anonymous", "member", "steward"])
def test_many_generated_requests_are_answered_as_declared(service: Service, principal: str) -> None:
    wrong = generated(service, principal, 60, every_kind=True)
    assert not wrong, "\n\n".join(wrong)
