"""Validators and preconditions. Source: RFC 9110 §8.8.3, §13."""

import re
from collections.abc import Iterable
from hashlib import sha256

from starlette.requests import Request

from app.http.problem import Problem

_BARE_VERSION = re.compile(r'"([1-9][0-9]{0,15})"')


def of_version(version: int, projection: str = "") -> str:
    """The strong validator of a record: its version, with a suffix for anything but the full original."""
    return f'"{version}{"-" + projection if projection else ""}"'


def of_parts(parts: Iterable[object]) -> str:
    """A strong validator computed from what a page shows."""
    shown = "".join([f"{part}\x1f" for part in parts])
    return f'"{sha256(shown.encode()).hexdigest()[:32]}"'


def matches(request: Request, etag: str) -> bool:
    """True when If-None-Match names `etag`, so that 304 is the answer."""
    named = request.headers.get("if-none-match")
    if named is None:
        return False
    return named == etag or any(part.strip().removeprefix("W/") in ("*", etag) for part in named.split(","))


def held_version(request: Request) -> int:
    """The version If-None-Match names when it names exactly one full original; 0 otherwise."""
    found = _BARE_VERSION.fullmatch(request.headers.get("if-none-match", ""))
    return 0 if found is None else int(found[1])


def expected_version(request: Request, *, required: bool = True) -> int | None:
    """The version If-Match names; None when it is absent and not required.

    Errors: 428 `precondition-required`; 412 `stale-version` for anything but one bare version.
    """
    named = request.headers.get("if-match")
    if named is None:
        if required:
            raise Problem("precondition-required")
        return None
    found = _BARE_VERSION.fullmatch(named.strip())
    if found is None:
        raise Problem("stale-version", "If-Match takes one version, in the form of the ETag of the full record.")
    return int(found[1])
