"""Gaps: issues that several regions share and that no action under way takes up."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.db.pool import Database
from app.deliberation.analysis import SHARED_PARAMETERS, about, read_trends
from app.deliberation.contributions import Span
from app.deliberation.provenance import acted_upon
from app.deliberation.reading import settings_in_force
from app.deliberation.wire import computed
from app.http.openapi import IF_NONE_MATCH, answer, public, responses
from app.http.query import integer, query_parameters, read_query
from app.identity.access import PublicReader
from app.records.router import described

router = APIRouter(tags=["analysis"])

GAP_PARAMETERS = {
    "regions": integer(1, 6, 3).described("Regions that must have raised an issue for it to be common to them."),
    "period": SHARED_PARAMETERS["period"],
    "as_of": SHARED_PARAMETERS["as_of"],
}


@router.get(
    "/v1/analysis/gaps",
    operation_id="listGaps",
    summary="Issues that several regions share and no action under way takes up",
    responses=responses(
        {
            200: answer(
                {
                    "type": "object",
                    "required": ["items"],
                    "properties": {"items": {"type": "array", "items": {"type": "object"}}},
                }
            ),
            304: None,
        },
        "invalid-parameter",
    ),
    openapi_extra=described([*query_parameters(GAP_PARAMETERS), IF_NONE_MATCH], public("records:read")),
)
async def list_gaps(request: Request, caller: PublicReader) -> Response:
    asked = read_query(request, GAP_PARAMETERS)
    database: Database = request.app.state.database
    async with database.connection() as connection:
        in_force = await settings_in_force(connection, asked["as_of"])
        thresholds = in_force.settings.trends.thresholds()
        reading = await read_trends(connection, caller, "issue", asked["period"] or Span(), asked["as_of"], thresholds)
        taken_up = await acted_upon(connection, caller)
    url = request.app.state.public_url
    items: list[dict[str, Any]] = []
    for item in reading.found:
        raised_in = [region for region, raised in item.counts.items() if raised]
        if len(raised_in) >= asked["regions"] and item.subject not in taken_up:
            items.append(
                {
                    "id": item.subject,
                    "url": f"{url}/v1/issues/{item.subject}",
                    "title": reading.titles.get(item.subject, ""),
                    "regions": raised_in,
                    "organisations": sum(item.counts.values()),
                    "class": item.kind,
                }
            )
    items.sort(key=lambda shown: (-len(shown["regions"]), -shown["organisations"], shown["title"]))
    body = {**about(asked, in_force, reading), "least_regions": asked["regions"], "items": items, "next": None}
    return computed(request, caller, body)
