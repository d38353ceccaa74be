"""Adoption of charters: recorded by a steward's organisation, with the day and the minutes, on its own record."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app.db.pool import Connection
from app.deliberation.reading import record_for, settings_in_force
from app.deliberation.wire import computed
from app.http import etag
from app.http.body import json_body, validated
from app.http.openapi import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, answer, public, request_body, responses, secured
from app.http.problem import Fault, Problem
from app.http.query import read_query
from app.http.transact import transact
from app.identity import audit
from app.identity.access import PublicReader, member
from app.identity.caller import Caller
from app.records import show, store
from app.records.change import Action, Change
from app.records.fields import Text
from app.records.kind import Kind, Status, Tlp
from app.records.router import described, record_id

router = APIRouter(tags=["charters"])


def _written_out(value: Any) -> Any:
    """A day as `2026-11-02` only: numbers would be taken for seconds."""
    if not isinstance(value, str) or len(value) != 10:
        raise PydanticCustomError("invalid-date", "write a day, such as 2026-11-02")
    return value


class CharterAdoption(BaseModel):
    """The record of an adoption."""

    model_config = ConfigDict(extra="forbid")

    adopted_on: Annotated[date, BeforeValidator(_written_out)]
    minutes: Text = Field(description="Who adopted it, where and how.")


@router.post(
    "/v1/charters/{id}/adopt",
    operation_id="adoptCharter",
    summary="Record that your charter was adopted (stewards); it never changes again",
    responses=responses(
        {200: answer({"type": "object"}, "The record.", headers=("ETag", "TLP"))},
        "not-found", "withdrawn", "not-owner", "illegal-transition", "precondition-required", "stale-version",
        "invalid-body",
    ),
    openapi_extra=described(
        [IF_MATCH, IDEMPOTENCY_KEY],
        request_body(CharterAdoption, example={"adopted_on": "2026-11-02", "minutes": "By all, at the meeting."}),
        secured("steward"),
    ),
)  # fmt: skip
async def adopt(request: Request, id: str, caller: Caller = member("steward")) -> Response:
    charter_id = record_id(id)
    given = validated(CharterAdoption, await json_body(request))
    if given.adopted_on > datetime.now(UTC).date():
        raise Problem("invalid-body", errors=[Fault("/adopted_on", "in-the-future")])
    kinds: Mapping[str, Kind] = request.app.state.kinds
    kind = kinds["charter"]

    async def work(connection: Connection) -> Response:
        charter = await record_for(connection, caller, "charter", charter_id, own=True, lock=True)
        expected = etag.expected_version(request)
        if charter.stage != "draft" or charter.status is not Status.PUBLISHED:
            raise Problem("illegal-transition", "Only a published charter in stage draft can be adopted.")
        if charter.marking.tlp is not Tlp.CLEAR:
            raise Problem("illegal-transition", "A charter binds everyone, so it must be clear.")
        cursor = await connection.execute("SELECT clock_timestamp()")
        row = await cursor.fetchone()
        assert row is not None
        amendment: dict[str, Any] = {
            "adopted_on": given.adopted_on.isoformat(),
            "minutes": given.minutes,
            "recorded_at": row[0].isoformat(),
        }
        change = Change(kind, Action.AMEND, charter_id, stage="adopted", amendment=amendment, expected_version=expected)
        (written,) = await store.write(connection, caller, [change])
        assert written.state is not None
        await audit.record(
            connection,
            "charter.adopt",
            audit.by(caller, steward=True),
            organisation_id=caller.organisation_id,
            details={"record": str(charter_id), "part": str(charter.body["part"])},
        )
        return await show.written(request, connection, caller, kind, written.state)

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True)


@router.get(
    "/v1/charters/in-force/settings",
    operation_id="getSettingsInForce",
    summary="The settings that hold now, and the charter they come from",
    responses=responses({200: answer({"type": "object"}), 304: None}),
    openapi_extra=described([IF_NONE_MATCH], public("records:read")),
)
async def in_force(request: Request, caller: PublicReader) -> Response:
    read_query(request, {})
    async with request.app.state.database.connection() as connection:
        found = await settings_in_force(connection)
    return computed(
        request, caller, {**found.cited(), "adopted_on": found.adopted_on, "settings": found.settings.as_json()}
    )
