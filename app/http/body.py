"""Bodies: read strictly, checked against a model, refused without repeating what was sent."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType
from starlette.requests import Request

from app.http import strict_json
from app.http.problem import Fault, Problem

M = TypeVar("M", bound=BaseModel)

MAX_FAULTS = 50

_BUILT_IN = frozenset(get_args(ErrorType))
_SAFE_TO_SAY = frozenset(
    {
        "bool_type", "dict_type", "enum", "float_type", "greater_than", "greater_than_equal", "int_type", "less_than",
        "less_than_equal", "list_type", "literal_error", "missing", "model_type", "string_too_long",
        "string_too_short", "string_type", "too_long", "too_short",
    }
)  # fmt: skip
"""Errors whose text is made from the schema alone; the others may quote a piece of the value."""
_CODES = {
    "bool_type": "bool-type",
    "date_from_datetime_inexact": "invalid-date",
    "date_from_datetime_parsing": "invalid-date",
    "date_type": "invalid-date",
    "datetime_from_date_parsing": "invalid-instant",
    "datetime_parsing": "invalid-instant",
    "datetime_type": "invalid-instant",
    "dict_type": "object-required",
    "enum": "enum",
    "extra_forbidden": "unknown-field",
    "float_type": "float-type",
    "greater_than_equal": "greater-than-equal",
    "int_type": "int-type",
    "less_than_equal": "less-than-equal",
    "list_type": "list-type",
    "literal_error": "enum",
    "missing": "required",
    "model_type": "object-required",
    "string_pattern_mismatch": "string-pattern-mismatch",
    "string_too_long": "string-too-long",
    "string_too_short": "string-too-short",
    "string_type": "string-type",
    "timezone_aware": "invalid-instant",
    "too_long": "too-long",
    "too_short": "too-short",
    "uuid_parsing": "invalid-id",
    "uuid_type": "invalid-id",
}
"""Our code for each error of pydantic's own that a body can meet, so that its names are no part of the contract."""


def media_type(request: Request) -> tuple[str, str]:
    """(media type, charset) of the body, in lower case; empty where not said."""
    declared = request.headers.get("content-type", "")
    essence, _, rest = declared.partition(";")
    charset = ""
    for parameter in rest.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').lower()
    return essence.strip().lower(), charset


async def json_body(request: Request, *media_types: str) -> Any:
    """The JSON object in the body. `media_types` are those this address takes; `application/json` when none is named.

    **Errors:** 415 `unsupported-media-type`, 400 `malformed-json`, 413 `body-too-large`, 422 `invalid-body`.
    """
    accepted = media_types or ("application/json",)
    essence, charset = media_type(request)
    if essence not in accepted or charset not in ("", "utf-8", "utf8"):
        raise Problem(
            "unsupported-media-type",
            detail=f"Send {' or '.join(accepted)} in UTF-8.",
            headers={"Accept-Patch" if request.method == "PATCH" else "Accept": ", ".join(accepted)},
        )
    value = strict_json.parse(await request.body())
    if type(value) is not dict:
        raise Problem("invalid-body", errors=[Fault("", "object-required")])
    return value


def pointer(location: Iterable[int | str], value: Any, *, missing: bool = False) -> str:
    """JSON Pointer of a pydantic error's place in `value`.

    Steps that are not in the value (names of union members and validators) are left out, and so is everything from
    a member whose name does not look like a field, because that name is the client's own text.
    """
    steps: list[str] = []
    for step in location:
        if isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            value = value[step]
        elif isinstance(value, Mapping) and isinstance(step, str) and step in value:
            if not strict_json.FIELD.fullmatch(step):
                break
            value = value[step]
        elif not (missing and isinstance(value, Mapping) and isinstance(step, str)):
            continue
        steps.append(str(step))
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)


def code_of(kind: str) -> str:
    """The code for an error of pydantic: ours for its own, else the one that a check of ours gave."""
    return _CODES.get(kind, "invalid" if kind in _BUILT_IN else kind)


def faults(error: ValidationError, value: Any) -> list[Fault]:
    """What pydantic found wrong in `value`, as pointers and codes; at most 50, in order."""
    found: list[Fault] = []
    for one in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]:
        kind, location = one["type"], one["loc"]
        if kind == "extra_forbidden":
            # The unknown name itself is the client's text: the fault stands at the object that holds it.
            fault = Fault(pointer(location[:-1], value), "unknown-field")
        else:
            say = kind in _SAFE_TO_SAY or kind not in _BUILT_IN
            place = pointer(location, value, missing=kind == "missing")
            fault = Fault(place, code_of(kind), one["msg"] if say else None)
        if fault not in found:
            found.append(fault)
    return found


def validated(model: type[M], value: Any) -> M:
    """`value` as an instance of `model`. **Errors:** 422 `invalid-body` with one fault for each place that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = faults(error, value)
        known = sorted(model.model_fields)
        unknown = any(fault.code == "unknown-field" and fault.pointer == "" for fault in found)
        detail = f"Known fields: {', '.join(known)}." if unknown else None
    except RecursionError:
        found, detail = [Fault("", "too-deep")], None
    raise Problem("invalid-body", detail=detail, errors=found)
