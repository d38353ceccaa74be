"""The feed on the wire: what its query may ask, how an item looks, and the address at which it goes on."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import orjson
from fastapi import Request
from pydantic import BaseModel, Field

from app import reference
from app.exchange import feed_place
from app.exchange.feed import Item, Wanted
from app.exchange.feed_place import Place
from app.http import query
from app.http.problem import Problem
from app.http.query import Parser
from app.identity.caller import Caller
from app.records.fields import LANGUAGE_TAG
from app.records.kind import Kind
from app.records.state import instant

LONGEST_WAIT_SECONDS = 30


class FeedItem(BaseModel):
    """A record that changed or came into sight (`upsert`), or is gone for you (`removed`)."""

    type: Literal["upsert", "removed"]
    kind: str
    id: UUID
    version: int = Field(ge=1, description="Apply the item if it is not below the version you hold.")
    at: str = Field(json_schema_extra={"format": "date-time"})
    record: dict[str, Any] | None = Field(None, description="The full view, with `include=record`, of an upsert.")
    erased: bool | None = Field(None, description="True when the owner erased the record for good.")


class FeedPage(BaseModel):
    """Changes in order; one item for each record."""

    items: list[FeedItem]
    next: str = Field(
        description="Where to go on: keep it once the items are stored.", json_schema_extra={"format": "uri"}
    )
    more: bool = Field(description="Another page is ready now.")


def _optional(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name not in ("record", "erased")]


FeedItem.model_config["json_schema_extra"] = _optional


def parameters(kinds: Mapping[str, Kind]) -> dict[str, Parser]:
    """The query parameters of the feed. A kind may be named in the singular or the plural, several with commas."""
    by_name = {name: kind.name for kind in kinds.values() for name in (kind.name, kind.plural)}
    kind = query.listed(query.choice(*by_name))

    def read_kinds(text: str) -> tuple[str, ...]:
        return tuple(by_name[name] for name in kind.read(text))

    schema = {"type": "array", "items": {"type": "string", "enum": sorted(kinds)}, "maxItems": 50}
    kinds_parser = Parser(
        read_kinds, kind.rule, schema, (), repeatable=True, description="Only these kinds.", extra=dict(kind.extra)
    )
    return {
        "after": query.text(400, pattern="[A-Za-z0-9_-]+").described("Where to go on; `next` holds it."),
        "limit": query.integer(1, 1000, 100).described("Most items on a page."),
        "wait": query.integer(0, LONGEST_WAIT_SECONDS, 0).described("Seconds to wait for a change you may see."),
        "include": query.choice("record").described("`record` adds the full record to each upsert."),
        "kinds": kinds_parser,
        "region": query.many(query.choice(*reference.REGIONS)).described("Records of these regions."),
        "topic": query.many(query.choice(*reference.TOPICS)).described("Records on these topics."),
        "lang": query.many(query.text(12, pattern=LANGUAGE_TAG.pattern)).described("Records in these languages."),
        "owner": query.many(query.uuid()).described("Records of these organisations."),
    }


def wanted_of(asked: Mapping[str, Any]) -> Wanted:
    """What the query asks to follow."""
    kinds = tuple(sorted({name for names in asked["kinds"] for name in names}))
    return Wanted(kinds, asked["owner"], asked["region"], asked["topic"], asked["lang"])


def feed_url(request: Request, caller: Caller, wanted: Wanted, place: Place, extra: Sequence[str] = ()) -> str:
    """Absolute address at which the feed goes on after a place."""
    named = (
        ("kinds", wanted.kinds),
        ("owner", wanted.owners),
        ("region", wanted.regions),
        ("topic", wanted.topics),
        ("lang", wanted.languages),
    )
    parts = [f"{name}={value}" for name, values in named for value in values]
    cursor = feed_place.sealed(request.app.state.secret, caller, wanted.digest, place)
    return f"{request.app.state.public_url}/v1/changes?{'&'.join([*parts, *extra, f'after={cursor}'])}"


def wire(item: Item, record: bytes | None) -> bytes:
    """An item as JSON."""
    head = orjson.dumps(
        {"type": item.type, "kind": item.kind, "id": item.id, "version": item.version, "at": instant(item.at)}
        | ({"erased": True} if item.erased else {})
    )
    return head if record is None else head[:-1] + b',"record":' + record + b"}"


def with_start(request: Request, problem: Problem) -> Problem:
    """A 410 names where to start again."""
    if problem.code != "resync-required":
        return problem
    start = f"{request.app.state.public_url}/v1/changes"
    return Problem(
        problem.code,
        "Begin without `after`, or with an export; what is not sent then is gone for you.",
        extra={"start": start},
        headers={"Link": f'<{start}>; rel="start"'},
    )
