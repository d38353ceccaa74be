"""Limits of what a request may be, checked before anything reads it. Source: safety I1, I5, O7, O8."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Message, Receive

from app.http.problem import Problem

MAX_BODY_BYTES = 1_000_000
MAX_TARGET_BYTES = 8192
MAX_HEADER_BYTES = 65_536
MAX_PARAMETERS = 100

_PATH_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_DIGITS = re.compile(b"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class BodyRule:
    """What the bodies at some addresses may be. `max_bytes=None`: the endpoint limits what it streams itself."""

    max_bytes: int | None = MAX_BODY_BYTES
    accepts_encoding: bool = False


DEFAULT_RULE = BodyRule()

_rules: dict[str, tuple[re.Pattern[str], BodyRule]] = {}
_published: dict[str, Mapping[str, int]] = {}


def publish(name: str, figures: Mapping[str, int]) -> None:
    """Adds the limits of a room above to those that `/v1` lists."""
    _published[name] = figures


def published() -> dict[str, Mapping[str, int]]:
    """The limits of the rooms above, by name."""
    return {name: _published[name] for name in sorted(_published)}


def rule_for_paths(pattern: str, rule: BodyRule) -> None:
    """Gives the addresses that match `pattern` as a whole a rule of their own."""
    _rules[pattern] = (re.compile(pattern), rule)


def body_rule(path: str) -> BodyRule:
    """The rule for the body of a request to `path`."""
    for pattern, rule in _rules.values():
        if pattern.fullmatch(path):
            return rule
    return DEFAULT_RULE


def check_target(path: str, raw_path: bytes, query_string: bytes) -> Problem | None:
    """What is wrong with the address of a request, if anything."""
    if len(raw_path) + len(query_string) > MAX_TARGET_BYTES:
        return Problem("uri-too-long", detail=f"An address has at most {MAX_TARGET_BYTES} bytes.")
    if query_string and query_string.count(b"&") >= MAX_PARAMETERS:
        return Problem("invalid-parameter", detail=f"An address has at most {MAX_PARAMETERS} parameters.")
    if _PATH_CONTROL.search(path):
        return Problem("not-found")
    return None


def check_body(path: str, length: bytes | None, chunked: bool, encoding: bytes | None) -> Problem | None:
    """What is wrong with the body a request announces, if anything."""
    if length is not None and (chunked or not _DIGITS.fullmatch(length)):
        return unclear_length()
    rule = body_rule(path)
    if encoding is not None and not rule.accepts_encoding and encoding.strip().lower() not in (b"", b"identity"):
        return Problem("unsupported-media-type", detail="Send the body without Content-Encoding.")
    if length is not None and rule.max_bytes is not None and int(length) > rule.max_bytes:
        return too_large(rule.max_bytes)
    return None


def unclear_length() -> Problem:
    """The refusal of a request whose end two readers could see at two places; the connection ends with it."""
    return Problem("bad-request", detail="The length of the body is not clear.", headers={"Connection": "close"})


def too_large(max_bytes: int) -> Problem:
    """The refusal of a body over the limit, which it names."""
    return Problem("body-too-large", detail=f"Bodies have at most {max_bytes} bytes here.")


def limited(receive: Receive, path: str) -> Receive:
    """`receive`, raising 413 `body-too-large` once a body without announced length grows over the limit."""
    max_bytes = body_rule(path).max_bytes
    if max_bytes is None:
        return receive
    received = 0

    async def limited_receive() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > max_bytes:
                raise too_large(max_bytes)
        return message

    return limited_receive
