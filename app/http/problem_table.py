"""The table of problem codes in docs/problems.md, made from `CODES`."""

from app.http.problem import CODES

HEAD = """\
# Problem codes

Every refusal is `application/problem+json` (RFC 9457). Programs decide by `code`, which is stable; `title` and `detail`
are for people. `errors` lists each wrong place of a body as a JSON Pointer with a code. `request_id` names the request
in the operator's log. No problem repeats what was sent. `type` leads to a page about the code.

This table is generated: `./minga openapi --write`.

| status | code | meaning |
|---|---|---|
"""


def table() -> str:
    """The whole page as Markdown, ordered by status and code."""
    rows = sorted((status, code, title) for code, (status, title) in CODES.items())
    return HEAD + "".join(f"| {status} | `{code}` | {title} |\n" for status, code, title in rows)
