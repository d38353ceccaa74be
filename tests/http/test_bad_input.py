"""Every bad request ends as a 4xx problem with a stable code, and neither answer nor log repeats it."""

import json
from dataclasses import dataclass, field

import httpx
import pytest

from app.http.limits import MAX_BODY_BYTES
from tests.http.small import problem

MARKER = "zqmarker"
JSON = {"Content-Type": "application/json"}


@dataclass
class Bad:
    """A bad request and what it must get."""

    status: int
    code: str
    body: bytes = b'{"title": "a"}'
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    path: str = "/v1/things"
    method: str = "POST"


def body(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


BAD = {
    "lone surrogate": Bad(400, "malformed-json", body(f'{{"title": "{MARKER}\\ud800"}}')),
    "raw surrogate": Bad(400, "malformed-json", body(f'{{"title": "{MARKER}\ud800"}}')),
    "NUL escaped": Bad(422, "invalid-body", body(f'{{"title": "{MARKER}\\u0000"}}')),
    "NUL raw": Bad(400, "malformed-json", body(f'{{"title": "{MARKER}\x00"}}')),
    "control character": Bad(422, "invalid-body", body(f'{{"title": "{MARKER}\\u001b[2J"}}')),
    "NaN": Bad(400, "malformed-json", body(f'{{"title": "{MARKER}", "number": NaN}}')),
    "Infinity": Bad(400, "malformed-json", body(f'{{"title": "{MARKER}", "number": -Infinity}}')),
    "1e400": Bad(400, "malformed-json", body(f'{{"title": "{MARKER}", "number": 1e400}}')),
    "large integer": Bad(400, "malformed-json", body(f'{{"title": "{MARKER}", "number": 9007199254740993}}')),
    "duplicate keys": Bad(400, "malformed-json", body(f'{{"title": "a", "title": "{MARKER}"}}')),
    "33 deep": Bad(400, "malformed-json", body('{"zqmarker":' * 33 + "1" + "}" * 33)),
    "very deep": Bad(400, "malformed-json", body('{"a":' * 100_000)),
    "1,001 keys": Bad(400, "malformed-json", json.dumps({f"{MARKER}{n}": n for n in range(1001)}).encode()),
    "UTF-16": Bad(400, "malformed-json", '{"title": "zqmarker"}'.encode("utf-16")),
    "syntax": Bad(400, "malformed-json", body(f'{{"title": {MARKER}}}')),
    "empty body": Bad(400, "malformed-json", b""),
    "no object": Bad(422, "invalid-body", body(f'["{MARKER}"]')),
    "wrong type": Bad(422, "invalid-body", body(f'{{"title": {{"a": "{MARKER}"}}}}')),
    "too long": Bad(422, "invalid-body", body(f'{{"title": "{MARKER * 30}"}}')),
    "unknown field": Bad(422, "invalid-body", body(f'{{"title": "a", "{MARKER}": "{MARKER}"}}')),
    "content type": Bad(415, "unsupported-media-type", headers={"Content-Type": f"text/{MARKER}"}),
    "no content type": Bad(415, "unsupported-media-type", headers={}),
    "compressed": Bad(415, "unsupported-media-type", headers={**JSON, "Content-Encoding": "gzip"}),
    "1.1 MB": Bad(413, "body-too-large", body(f'{{"title": "{MARKER * 137_500}"}}')),
    "unknown parameter": Bad(400, "invalid-parameter", b"", {}, f"/v1/things?{MARKER}=1", "GET"),
    "bad parameter": Bad(400, "invalid-parameter", b"", {}, f"/v1/things?limit={MARKER}", "GET"),
    "101 parameters": Bad(400, "invalid-parameter", b"", {}, "/v1/things?" + "&".join(["a=zqmarker"] * 101), "GET"),
    "long address": Bad(414, "uri-too-long", b"", {}, "/v1/things?region=" + MARKER * 1025, "GET"),
    "long path": Bad(414, "uri-too-long", b"", {}, "/v1/things/" + MARKER * 1025, "GET"),
    "large headers": Bad(431, "headers-too-large", b"", {"X-Test": MARKER * 8200}, "/v1/things", "GET"),
    "NUL in path": Bad(404, "not-found", b"", {}, f"/v1/things/{MARKER}%00", "GET"),
    "no id": Bad(404, "not-found", b"", {}, f"/v1/things/{MARKER}", "GET"),
    "unknown path": Bad(404, "not-found", b"", {}, f"/v1/{MARKER}", "GET"),
    "trailing slash": Bad(404, "not-found", b"", {}, "/v1/things/", "GET"),
    "unknown method": Bad(405, "method-not-allowed", b"", {}, "/v1/things", "DELETE"),
    "made-up method": Bad(405, "method-not-allowed", b"", {}, "/v1/things", "ZQMARKER"),
    "foreign host": Bad(400, "bad-request", b"", {"Host": "zqmarker.example"}, "/v1/things", "GET"),
    "bad host": Bad(400, "bad-request", b"", {"Host": "minga.test@zqmarker"}, "/v1/things", "GET"),
    "long key": Bad(400, "invalid-header", headers={**JSON, "Idempotency-Key": MARKER * 32}),
    "key of spaces": Bad(400, "invalid-header", headers={**JSON, "Idempotency-Key": "   "}),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_without_an_echo(things: httpx.AsyncClient, lines: list[str], name: str) -> None:
    bad = BAD[name]
    answer = await things.request(bad.method, bad.path, content=bad.body, headers=bad.headers)
    assert (answer.status_code, problem(answer)["code"]) == (bad.status, bad.code)
    assert MARKER not in answer.text.lower()
    assert MARKER not in str(answer.headers).lower()
    assert not [line for line in lines if MARKER in line.lower() and '"app.http' in line]


async def test_a_body_without_length_is_counted_as_it_comes(things: httpx.AsyncClient) -> None:
    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(MAX_BODY_BYTES // 1000 + 2):
            yield b"x" * 1000

    answer = await things.post("/v1/things", content=chunks(), headers=JSON)
    assert answer.status_code == 413
    assert problem(answer)["code"] == "body-too-large"


async def test_a_body_of_exactly_the_limit_is_read(things: httpx.AsyncClient) -> None:
    whole = b'{"title": "a"}'.ljust(MAX_BODY_BYTES)
    assert (await things.post("/v1/things", content=whole, headers=JSON)).status_code == 201
    assert (await things.post("/v1/things", content=whole + b" ", headers=JSON)).status_code == 413


async def test_405_names_every_method(things: httpx.AsyncClient) -> None:
    answer = await things.delete("/v1/things")
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_failures_say_nothing_and_are_logged_without_their_text(
    things: httpx.AsyncClient, lines: list[str]
) -> None:
    answer = await things.get("/v1/broken", headers={"X-Test": MARKER, "X-Request-Id": "request-1"})
    assert answer.status_code == 500
    assert problem(answer) == {
        "type": "http://minga.test/problems/internal",
        "title": "Something went wrong on our side.",
        "status": 500,
        "code": "internal",
        "request_id": "request-1",
    }
    (line,) = [json.loads(line) for line in lines if "request failed" in line]
    assert line["error"] == "RuntimeError"
    assert line["request_id"] == "request-1"
    assert any("broken" in place for place in line["at"])
    assert MARKER not in json.dumps(line)


async def test_a_statement_that_takes_too_long_is_a_503(things: httpx.AsyncClient) -> None:
    answer = await things.get("/v1/slow")
    assert answer.status_code == 503
    assert problem(answer)["code"] == "unavailable"
    assert answer.headers["retry-after"] == "2"
