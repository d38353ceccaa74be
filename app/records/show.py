"""Showing: stored documents framed for one reader, with the headers that go with them."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.db.pool import Connection
from app.db.readers import Reads
from app.http import etag
from app.http.responses import bytes_response, empty_response, json_bytes
from app.identity import pages
from app.identity.caller import Caller
from app.records import references, render
from app.records.change import targets
from app.records.kind import Kind, Status, Tlp
from app.records.marking import WIDTH
from app.records.read import Row
from app.records.state import State

NO_STORE = "private, no-store"
REVALIDATE = "private, no-cache"
SHARED = "public, max-age=60"


def record_url(request: Request, kind: Kind, record_id: UUID) -> str:
    """Absolute address of a record."""
    return f"{request.app.state.public_url}/v1/{kind.plural}/{record_id}"


def cache_control(caller: Caller, marked: Iterable[tuple[str, str]]) -> str:
    """How an answer showing records of these (tlp, status) may be kept."""
    if any(tlp.startswith("amber") or status != "published" for tlp, status in marked):
        return NO_STORE
    return REVALIDATE if caller.is_member else SHARED


def tlp_header(labels: Iterable[str]) -> dict[str, str]:
    """The TLP header with the strictest of the labels; none for none."""
    strictest = min((Tlp(label) for label in set(labels)), key=WIDTH.__getitem__, default=None)
    return {} if strictest is None else {"TLP": f"TLP:{strictest.upper()}"}


async def stripped(
    connection: Reads, caller: Caller, kind: Kind, documents: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The documents less the references this caller may not have."""
    found = {target for document in documents for _, _, target in targets(kind, document)}
    named = {target for document in documents for _, _, target in targets(kind, document, organisations=True)}
    hidden = {str(one) for one in (*found, *named)}
    if found:
        hidden -= await references.visible_ids(connection, caller, found)
    if named:
        hidden -= await references.visible_organisation_ids(connection, caller, named)
    shown = list(documents)
    if hidden:
        gone = frozenset(hidden)
        for path in (*kind.refs, *kind.organisation_refs):
            shown = [render.without(document, path.steps, gone) for document in shown]
    return shown


async def documents(
    request: Request, connection: Reads, caller: Caller, kind: Kind, rows: Sequence[Row], *, full: bool
) -> tuple[list[bytes], list[str]]:
    """Each row's document as this caller gets it, and for each a suffix of its validator ("" where nothing is lost)."""
    bodies = [row.document or b"{}" for row in rows]
    suffixes = [""] * len(rows)
    guarded = [index for index, row in enumerate(rows) if full and row.refs_guarded]
    if guarded:
        loaded = [orjson.loads(bodies[index]) for index in guarded]
        for index, before, after in zip(guarded, loaded, await stripped(connection, caller, kind, loaded), strict=True):
            if after != before:
                bodies[index] = orjson.dumps(after)
                suffixes[index] = sha256(bodies[index]).hexdigest()[:12]
    owner_ids = {row.organisation_id for row in rows}
    names = await request.app.state.identity.names(connection, owner_ids)
    owners = {id_: render.owner(id_, names.get(id_, "")) for id_ in owner_ids}
    collection = f"{request.app.state.public_url}/v1/{kind.plural}/"
    framed = [
        render.framed(
            body,
            url=f"{collection}{row.id}",
            owner=owners[row.organisation_id],
            owner_sees=(row.external_id, row.audience) if row.organisation_id == caller.organisation_id else None,
        )
        for row, body in zip(rows, bodies, strict=True)
    ]
    return framed, suffixes


async def linked(request: Request, connection: Reads, caller: Caller, found: Sequence[tuple[str, Row]]) -> list[bytes]:
    """Items of a list of backlinks: `{"relation", "record"}` with brief documents of any kind."""
    kinds: Mapping[str, Kind] = request.app.state.kinds
    items = []
    for relation, row in found:
        bodies, _ = await documents(request, connection, caller, kinds[row.kind], [row], full=False)
        items.append(b'{"relation":%b,"record":%b}' % (orjson.dumps(relation), bodies[0]))
    return items


def projected(document: bytes, fields: Sequence[str]) -> bytes:
    """Only the named fields of a document."""
    whole = orjson.loads(document)
    return orjson.dumps({name: whole[name] for name in fields if name in whole})


def projection(view: str, fields: Sequence[str] | None) -> str:
    """Names a projection in validators: empty for the full view."""
    if fields is not None:
        return "f" + sha256(",".join(fields).encode()).hexdigest()[:12]
    return "" if view == "full" else "b"


async def one(
    request: Request,
    connection: Reads,
    caller: Caller,
    kind: Kind,
    row: Row,
    fields: Sequence[str] | None = None,
) -> Response:
    """The answer to GET of one record: 200 or 304."""
    bodies, suffixes = await documents(request, connection, caller, kind, [row], full=True)
    validator = etag.of_version(
        row.version, "-".join(part for part in (projection("full", fields), suffixes[0]) if part)
    )
    headers = {
        "ETag": validator,
        "Cache-Control": cache_control(caller, [(row.tlp, row.status)]),
        **tlp_header([row.tlp]),
    }
    if etag.matches(request, validator):
        return empty_response(304, headers)
    return bytes_response(bodies[0] if fields is None else projected(bodies[0], fields), headers=headers)


def not_modified(caller: Caller, row: Row) -> Response:
    """304 for a row whose version the client named and from whose document nothing is taken."""
    return empty_response(
        304,
        {
            "ETag": etag.of_version(row.version),
            "Cache-Control": cache_control(caller, [(row.tlp, row.status)]),
            **tlp_header([row.tlp]),
        },
    )


async def listing(
    request: Request,
    connection: Reads,
    caller: Caller,
    kind: Kind,
    rows: Sequence[Row],
    asked: Mapping[str, Any],
    counted: tuple[int, bool] | None,
) -> Response:
    """The answer to GET of a list; `rows` holds one more than the page where there is a next one."""
    limit, fields = asked["limit"], asked["fields"]
    shown, more = rows[:limit], len(rows) > limit
    full = asked["view"] == "full" or fields is not None
    bodies, suffixes = await documents(request, connection, caller, kind, shown, full=full)
    if fields is not None:
        bodies = [projected(body, fields) for body in bodies]
    next_url = None
    if more:
        cursor = pages.sealed(request, caller, dict(asked), shown[-1].key, shown[-1].id)
        next_url = page_url(request, cursor)
    validator = etag.of_parts(
        [
            projection(asked["view"], fields),
            *(f"{row.id.int:x}/{row.version}/{suffix}" for row, suffix in zip(shown, suffixes, strict=True)),
            more,
            counted,
        ]
    )
    headers = {
        "ETag": validator,
        "Cache-Control": cache_control(caller, ((row.tlp, row.status) for row in shown)),
        **tlp_header(row.tlp for row in shown),
    }
    if next_url is not None:
        headers["Link"] = f'<{next_url}>; rel="next"'
    if etag.matches(request, validator):
        return empty_response(304, headers)
    body = b'{"items":[' + b",".join(bodies) + b'],"next":' + orjson.dumps(next_url)
    if counted is not None:
        body += b',"total":%d,"approximate":%b' % (counted[0], orjson.dumps(counted[1]))
    return bytes_response(body + b"}", headers=headers)


def conditional(
    request: Request, body: bytes, headers: Mapping[str, str], media_type: str = "application/json"
) -> Response:
    """200 with a body that was computed for this reader, its validator made of its bytes; or 304."""
    marked = {**headers, "ETag": etag.of_parts([body])}
    if etag.matches(request, marked["ETag"]):
        return empty_response(304, marked)
    return bytes_response(body, headers=marked, media_type=media_type)


def page_url(request: Request, cursor: str) -> str:
    """Absolute address of the page that `cursor` starts, with the same filters."""
    query = [part for part in request.scope["query_string"].decode("latin-1").split("&") if part]
    kept = [part for part in query if not part.startswith("cursor=")]
    path = quote(request.scope["path"])
    return f"{request.app.state.public_url}{path}?{'&'.join([*kept, 'cursor=' + cursor])}"


async def written(
    request: Request, connection: Reads, caller: Caller, kind: Kind, state: State, status: int = 200
) -> Response:
    """The answer to a write: the full record as it is now, or nothing where the client prefers that."""
    headers = {
        "ETag": etag.of_version(state.version),
        "Cache-Control": NO_STORE,
        **tlp_header([state.marking.tlp]),
    }
    if status == 201:
        headers["Location"] = record_url(request, kind, state.id)
    if "return=minimal" in request.headers.get("prefer", ""):
        return empty_response(status if status == 201 else 204, {**headers, "Preference-Applied": "return=minimal"})
    return bytes_response(await whole(request, connection, caller, kind, state), status, headers)


async def whole(request: Request, connection: Reads, caller: Caller, kind: Kind, state: State) -> bytes:
    """The full document of a state, as this caller gets it."""
    document = render.full(state)
    if any(True for _ in (*targets(kind, state.body), *targets(kind, state.body, organisations=True))):
        document = orjson.dumps((await stripped(connection, caller, kind, [orjson.loads(document)]))[0])
    names = await request.app.state.identity.names(connection, {state.organisation_id})
    return render.framed(
        document,
        url=record_url(request, kind, state.id),
        owner=render.owner(state.organisation_id, names.get(state.organisation_id, "")),
        owner_sees=(state.external_id, list(state.marking.audience))
        if state.organisation_id == caller.organisation_id
        else None,
    )


async def readers(connection: Connection, state: State) -> bytes:
    """Who a marking lets read, as named; `in_force` is false while only the owner reads (draft, withdrawn)."""
    cursor = await connection.execute(
        "SELECT id, network FROM organisation WHERE id = ANY (%s) ORDER BY id", [list(state.marking.audience)]
    )
    named = await cursor.fetchall()
    tlp = state.marking.tlp
    return json_bytes(
        {
            "public": tlp is Tlp.CLEAR,
            "members": tlp in (Tlp.CLEAR, Tlp.GREEN),
            "organisations": [id_ for id_, network in named if not network or tlp is Tlp.AMBER_STRICT],
            "networks": [id_ for id_, network in named if network and tlp is Tlp.AMBER],
            "in_force": state.status is Status.PUBLISHED,
        }
    )
