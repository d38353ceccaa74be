"""The OpenAPI document: what FastAPI collected, completed and made true. Pure functions over dicts."""

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from app.http.faults import FAULTS, SHARED
from app.http.problem import CODES

PROBLEM_TYPE = "application/problem+json"
SCHEMAS = "#/components/schemas/"
PENDING = "minga:"
DECLARED = "x-declared"

HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"description": "Names this request in our log; the client's own if it sent one."},
    "ETag": {"description": "Version of what is returned; send it back as If-Match or If-None-Match."},
    "Location": {"description": "Absolute address of what was made."},
    "Link": {"description": 'Address of the next page, `rel="next"`, where there is one.'},
    "TLP": {"description": "Marking of what is returned; for lists the strictest one in it."},
    "Content-Language": {"description": "Language of the texts."},
    "Idempotency-Replayed": {"description": "`true` where this is the kept answer to an earlier request."},
    "Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}},
    "RateLimit": {"description": "What is left of the limit, and when it is full again."},
    "RateLimit-Policy": {"description": "The limit that applies."},
    "WWW-Authenticate": {"description": "How to authenticate, and what was wrong (RFC 6750)."},
    "Allow": {"description": "Methods that exist here."},
}


@dataclass(frozen=True, slots=True)
class Registered:
    """What endpoints said about themselves: models by their pending name, schemas by name, scopes by name."""

    models: Mapping[str, tuple[type[BaseModel], JsonSchemaMode]]
    components: Mapping[str, Mapping[str, Any]]
    scopes: Mapping[str, str]


_METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
_JSON_TYPE = re.compile(r"application/([a-z.-]+\+)?json")
_PATH_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_EXAMPLE_HOST = "https://minga.example"
_RESPONSE_HEADERS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
    507: ("Retry-After",),
}
_HEADER_CODES = {
    "idempotency-key": ("invalid-header", "idempotency-in-flight", "idempotency-mismatch"),
    "if-match": ("invalid-header", "precondition-required", "stale-version"),
}

FAULT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One thing wrong in the body.",
    "required": ["pointer", "code"],
    "properties": {
        "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901) of the place in the body."},
        "code": {
            "type": "string",
            "enum": sorted({*FAULTS, *SHARED["errors"]}),
            "description": "What is wrong there; stable. `/problems/{code}` explains it; later versions add codes.",
        },
        "detail": {"type": "string", "description": "The same in words; never what was sent."},
    },
}


def problem_schema() -> dict[str, Any]:
    """The schema of a problem (RFC 9457), with every code the service can utter."""
    return {
        "type": "object",
        "description": "A refusal (RFC 9457). `code` is stable; the other texts are for people.",
        "required": ["type", "title", "status", "code", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "Address of a page about this code."},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": sorted(CODES)},
            "errors": {"type": "array", "items": {"$ref": f"{SCHEMAS}Fault"}},
            "request_id": {"type": "string"},
        },
    }


def _example(code: str) -> dict[str, Any]:
    status, title = CODES[code]
    value: dict[str, Any] = {
        "type": f"{_EXAMPLE_HOST}/problems/{code}",
        "title": title,
        "status": status,
        "code": code,
        "request_id": "b6f1c2d3e4a5968778695a4b",
    }
    if code == "invalid-body":
        value["errors"] = [{"pointer": "/title", "code": "required"}]
    return {"summary": title, "value": value}


def _refs(value: Any) -> Iterable[str]:
    """Every `$ref` below `value`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item
            else:
                yield from _refs(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _refs(item)


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    """`value` with every `$ref` in `names` replaced."""
    if isinstance(value, Mapping):
        return {
            key: names.get(item, item) if key == "$ref" and isinstance(item, str) else _rename(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_rename(item, names) for item in value]
    return value


def _resolve(document: dict[str, Any], registered: Registered) -> dict[str, Any]:
    """`document` with the registered schemas it refers to, under their final names."""
    schemas: dict[str, Any] = document["components"].setdefault("schemas", {})
    schemas.update(Problem=problem_schema(), Fault=FAULT_SCHEMA)
    while (
        missing := {name for ref in _refs(document) if (name := ref.removeprefix(SCHEMAS)) in registered.components}
        - schemas.keys()
    ):
        schemas.update({name: copy.deepcopy(dict(registered.components[name])) for name in missing})
    pending = sorted({ref for ref in _refs(document) if ref.startswith(PENDING)})
    inputs = [registered.models[ref.removeprefix(PENDING)] for ref in pending]
    mapping, definitions = models_json_schema(inputs, ref_template=SCHEMAS + "{model}")
    names = {ref: mapping[each]["$ref"] for ref, each in zip(pending, inputs, strict=True)}
    # Pydantic tells the two forms of one model apart as Case-Input and Case-Output; generated clients prefer CaseInput.
    plain = {name: name.replace("-", "") for name in definitions.get("$defs", {})}
    names = {ref: SCHEMAS + plain[name.removeprefix(SCHEMAS)] for ref, name in names.items()}
    names |= {SCHEMAS + name: SCHEMAS + new for name, new in plain.items()}
    for name, schema in definitions.get("$defs", {}).items():
        if schemas.setdefault(plain[name], schema) != schema:
            raise ValueError(f"schema {plain[name]} has two meanings")
    renamed: dict[str, Any] = _rename(document, names)
    return renamed


def _common_codes(method: str, path: str, operation: Mapping[str, Any]) -> set[str]:
    """The problem codes an operation can give because of what it is."""
    codes = {"bad-request", "internal", "unavailable"}
    if method != "get" and path.startswith("/v1/"):
        codes.add("insufficient-storage")
    parameters = operation.get("parameters", ())
    if path.startswith(("/v1/", "/oauth/")):
        codes.add("rate-limited")
    if any(parameter.get("in") == "path" for parameter in parameters):
        codes.add("not-found")
    if path.startswith("/v1") and operation.get("operationId"):
        codes.add("invalid-parameter")
    for parameter in parameters:
        codes.update(_HEADER_CODES.get(str(parameter.get("name")).lower(), ()))
    security = operation.get("security", [])
    if security:
        codes.add("invalid-token")
        if any(scopes for choice in security for scopes in choice.values()):
            codes.add("insufficient-scope")
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        codes.update(("body-too-large", "unsupported-media-type"))
        if any(_JSON_TYPE.fullmatch(media_type) for media_type in content):
            codes.update(("malformed-json", "invalid-body"))
    return codes


def _problem_answer(status: int, codes: Iterable[str]) -> dict[str, Any]:
    named = sorted(codes)
    found: dict[str, Any] = {
        "description": f"Refused: {', '.join(f'`{code}`' for code in named)}.",
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": f"{SCHEMAS}Problem"},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in named},
            }
        },
    }
    if status in _RESPONSE_HEADERS:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _RESPONSE_HEADERS[status]}
    return found


def _answers(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    """The answers of an operation: those it declared, a problem answer for each status its codes have."""
    given: dict[str, Any] = operation.get("responses", {})
    declared = {status: answer[DECLARED] for status, answer in given.items() if DECLARED in answer}
    if not declared:
        declared = {status: answer for status, answer in given.items() if status != "422"}
    codes = set() if operation.get("x-own-errors") else _common_codes(method, path, operation)
    found: dict[str, Any] = {}
    for status, answer in declared.items():
        if "x-codes" in answer:
            codes.update(answer["x-codes"])
        else:
            found[status] = copy.deepcopy(answer)
    by_status: dict[int, set[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code][0], set()).add(code)
    for number, named in by_status.items():
        problem = _problem_answer(number, named)
        own = found.setdefault(str(number), problem)
        if own is not problem:
            own.setdefault("content", {}).update(problem["content"])
    names = {str(parameter.get("name")).lower() for parameter in operation.get("parameters", ())}
    if "if-none-match" in names:
        found.setdefault("304", {"description": "You have it already."})
    for answer in found.values():
        answer.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/X-Request-Id"}
    return dict(sorted(found.items()))


def _path_parameters(path: str, operation: dict[str, Any]) -> None:
    """Adds the parameters of the path that the endpoint reads for itself instead of declaring them to FastAPI."""
    parameters = operation.get("parameters", [])
    declared = {parameter["name"] for parameter in parameters if parameter.get("in") == "path"}
    for name in _PATH_PARAMETER.findall(path):
        if name not in declared:
            schema = {"type": "string", "format": "uuid"} if name == "id" else {"type": "string"}
            parameters = [*parameters, {"name": name, "in": "path", "required": True, "schema": schema}]
    if parameters:
        operation["parameters"] = parameters


def _share(document: dict[str, Any]) -> None:
    """Moves answers and parameters that several operations have to the components: a sixth of the size remains."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    answers = [(operation["responses"], status) for operation in operations for status in operation["responses"]]
    lists = [operation["parameters"] for operation in operations if "parameters" in operation]
    parameters = [(entries, position) for entries in lists for position in range(len(entries))]
    components = document["components"]
    components["responses"] = _moved(answers, "responses", lambda status, _: f"Answer{status}")
    components["parameters"] = _moved(parameters, "parameters", lambda _, entry: f"{entry['in']}.{entry['name']}")


def _moved(places: Iterable[tuple[Any, Any]], part: str, name_of: Callable[[Any, Any], str]) -> dict[str, Any]:
    """The values that stand in more than one place, by a name of their own; each place is left with a reference."""
    by_value: dict[str, list[tuple[Any, Any]]] = {}
    for holder, key in places:
        by_value.setdefault(json.dumps(holder[key], sort_keys=True), []).append((holder, key))
    found: dict[str, Any] = {}
    for same in by_value.values():
        if len(same) > 1:
            holder, key = same[0]
            value = holder[key]
            name = base = name_of(key, value)
            count = 1
            while name in found:
                count += 1
                name = f"{base}.{count}"
            found[name] = value
            for holder, key in same:
                holder[key] = {"$ref": f"#/components/{part}/{name}"}
    return found


def assemble(raw: Mapping[str, Any], registered: Registered) -> dict[str, Any]:
    """The finished document: `raw` as FastAPI made it, completed, corrected and in a fixed order."""
    document: dict[str, Any] = copy.deepcopy(dict(raw))
    components = document.setdefault("components", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                _path_parameters(path, operation)
                operation["responses"] = _answers(method, path, operation)
                operation.pop("x-own-errors", None)
        document["paths"][path] = {method: item[method] for method in _METHODS if method in item}
    components["headers"] = {name: {"schema": {"type": "string"}} | header for name, header in sorted(HEADERS.items())}
    components["examples"] = {code: _example(code) for code in sorted(CODES)}
    components["securitySchemes"] = {
        "oauth2": {
            "type": "oauth2",
            "description": "Client credentials of an organisation (RFC 6749 §4.4).",
            "flows": {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": dict(registered.scopes)}},
        },
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token."},
    }
    document = _resolve(document, registered)
    document["paths"] = dict(sorted(document["paths"].items()))
    _share(document)
    document["components"] = {
        part: dict(sorted(entries.items())) for part, entries in sorted(document["components"].items())
    }
    return document
