"""OpenAPI: the few words endpoints use to describe themselves, and the one place the document is made.

FastAPI collects the routes; `build_document` then puts in what it cannot know (problems, security, strict bodies),
takes out what is not true here (its own 422 model, its guess of a 200 answer), and sorts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from app.http.openapi_document import DECLARED, PENDING, SCHEMAS, Registered, assemble
from app.http.problem import CODES

Schema = Mapping[str, Any]

_RESPONSE_KEYS = {"description", "headers", "content", "links"}

_models: dict[str, tuple[type[BaseModel], JsonSchemaMode]] = {}
_components: dict[str, Schema] = {}
_scopes: dict[str, str] = {}


def schema_ref(model: type[BaseModel], mode: JsonSchemaMode = "validation") -> dict[str, str]:
    """A reference to `model` as a component. Its final name is settled in `build_document`."""
    name = f"{mode}:{model.__module__}.{model.__qualname__}"
    if _models.setdefault(name, (model, mode))[0] is not model:
        name = f"{name}@{id(model)}"
        _models[name] = (model, mode)
    return {"$ref": f"{PENDING}{name}"}


def component(name: str, schema: Schema) -> dict[str, str]:
    """A reference to a schema written by hand, kept as component `name`. Errors: ValueError for a second meaning."""
    if _components.setdefault(name, schema) != schema:
        raise ValueError(f"component {name} has two meanings")
    return {"$ref": f"{SCHEMAS}{name}"}


def _schema(shape: Any, mode: JsonSchemaMode) -> Schema:
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return schema_ref(shape, mode)
    return dict(shape)


def request_body(
    model: type[BaseModel] | Schema,
    example: Any = None,
    media_types: Sequence[str] = ("application/json",),
    *,
    required: bool = True,
    description: str | None = None,
) -> dict[str, Any]:
    """`openapi_extra` for an endpoint that reads its body with `json_body` and `validated`."""
    media: dict[str, Any] = {"schema": _schema(model, "validation")}
    if example is not None:
        media["example"] = example
    body: dict[str, Any] = {"required": required, "content": {name: dict(media) for name in media_types}}
    if description:
        body["description"] = description
    return {"requestBody": body}


def answer(
    schema: type[BaseModel] | Schema | None,
    description: str = "Done.",
    *,
    example: Any = None,
    headers: Iterable[str] = (),
    media_type: str = "application/json",
) -> dict[str, Any]:
    """One successful answer, for `responses`. `headers` are names out of `HEADERS`."""
    found: dict[str, Any] = {"description": description}
    if headers:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if schema is not None:
        media: dict[str, Any] = {"schema": _schema(schema, "serialization")}
        if example is not None:
            media["example"] = example
        found["content"] = {media_type: media}
    return found


def responses(ok: Mapping[int, Any], *codes: str) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses=`: the successful answers, and the problem codes this operation can give.

    A value of `ok` is an `answer(…)`, a model, a schema, or None for an empty body. Codes that hold for every
    operation (401, 403, 413, 415, 429, 500, 503 …) need not be named. Errors: LookupError for an unknown code.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for status, shape in ok.items():
        whole = isinstance(shape, Mapping) and "description" in shape and shape.keys() <= _RESPONSE_KEYS
        declared = dict(shape) if whole else answer(shape)
        found[status] = {"description": declared["description"], DECLARED: declared}
    by_status: dict[int, set[str]] = {}
    for code in codes:
        if code not in CODES:
            raise LookupError(f"{code} is not in CODES")
        by_status.setdefault(CODES[code][0], set()).add(code)
    for status, named in by_status.items():
        found[status] = {"description": "Problem", DECLARED: {"x-codes": sorted(named)}}
    return found


def secured(*scopes: str) -> dict[str, Any]:
    """`openapi_extra` for an operation that needs a token with these scopes (with any scopes if none is named)."""
    return {"security": [{"oauth2": list(scopes)}, {"bearer": []}]}


def public(*scopes: str) -> dict[str, Any]:
    """`openapi_extra` for an operation that works without a token; with one, it needs these scopes."""
    return {"security": [{}, {"oauth2": list(scopes)}, {"bearer": []}] if scopes else []}


def header_parameter(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    """A request header, as an entry of `parameters`."""
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


IDEMPOTENCY_KEY = header_parameter("Idempotency-Key", "1 to 255 printable characters: one effect, however often sent.")
IF_MATCH = header_parameter("If-Match", 'The ETag you read, such as `"3"`.', required=True)
IF_NONE_MATCH = header_parameter("If-None-Match", "ETags you hold; 304 if one of them is current.")


def name_scopes(scopes: Mapping[str, str]) -> None:
    """Says what each scope means; the identity room calls it once."""
    _scopes.update(scopes)


def build_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `app`: sorted, so that equal apps give equal bytes."""
    raw = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        license_info=app.license_info,
        routes=app.routes,
        webhooks=app.webhooks.routes,
        tags=app.openapi_tags,
        servers=[{"url": "/"}],
    )
    return assemble(raw, Registered(_models, _components, _scopes))
