"""The tables of codes in docs/problems.md, made from the catalogues."""

from collections.abc import Mapping

from app.http.faults import FAULTS, OUTCOMES, REASONS, SHARED
from app.http.problem import CODES

HEAD = """\
# Problem codes

Every refusal is `application/problem+json` (RFC 9457). Programs decide by `code`, which is stable; `title` and `detail`
are for people. `errors` lists each wrong place of a body as a JSON Pointer with [a code of its own](#codes-of-a-place).
`request_id` names the request in the operator's log. No problem repeats what was sent. `type` leads to a page about the
code, and so does `/problems/` with any code below.

These tables are generated: `./minga openapi --write`.

| status | code | meaning |
|---|---|---|
"""

FAULTS_HEAD = """
## Codes of a place

In `errors` beside a pointer, and in the `problems` of an import beside a line, where a problem code may stand too.

| code | meaning |
|---|---|
"""
REASONS_HEAD = """
## Why an import or a webhook ended

In `reason` of an import that failed and of a webhook that is disabled.

| code | meaning |
|---|---|
"""
OUTCOMES_HEAD = """
## How an attempt to deliver went

In `last_outcome` of a delivery. Codes of addresses, such as `address-not-public`, may stand there too: an address is
looked up anew each time.

| code | meaning |
|---|---|
"""


def table() -> str:
    """The whole page as Markdown; problems ordered by status and code, all else by code."""
    problems = sorted((status, code, title) for code, (status, title) in CODES.items())
    return (
        HEAD
        + "".join(f"| {status} | `{code}` | {title} |\n" for status, code, title in problems)
        + FAULTS_HEAD
        + _rows(FAULTS, "errors")
        + REASONS_HEAD
        + _rows(REASONS, "reason")
        + OUTCOMES_HEAD
        + _rows(OUTCOMES, "last_outcome")
    )


def _rows(codes: Mapping[str, str], place: str) -> str:
    every = {**codes, **{code: CODES[code][1] for code in SHARED.get(place, ())}}
    return "".join(f"| `{code}` | {meaning} |\n" for code, meaning in sorted(every.items()))
