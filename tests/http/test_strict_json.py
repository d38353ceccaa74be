"""The strict reader takes JSON that means one thing everywhere, and refuses everything else with a 4xx code."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.problem import Problem
from app.http.strict_json import parse

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"))
KEYS = st.text("abcdefgh_", min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":1}{"b":2}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":-1e400}',
        b'{"a":1,"a":2}',
        b'{"o":{"a":1,"\\u0061":2}}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"a\\ud83d":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":"b"}'.encode("utf-16"),
        b'{"a":"\x00"}',
        b'{"a":"\n"}',
        b'{"a":9007199254740993}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b"[" * 33 + b"]" * 33,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000,
        json.dumps({f"k{n}": n for n in range(1001)}).encode(),
        b"[" + b"1," * 100_001 + b"1]",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_refused_as_malformed(text: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse(text)
    assert caught.value.code == "malformed-json"
    assert caught.value.status == 400


@pytest.mark.parametrize("text", ["\\u0000", "\\u0007", "\\b", "\\f", "\\r", "\\u007f", "\\u0085", "\x85", "\\u001B"])
def test_control_characters_are_named_by_place(text: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(f'{{"title": "a", "items": [{{"note": "x{text}y"}}]}}'.encode())
    assert caught.value.code == "invalid-body"
    assert [fault.as_json() for fault in caught.value.errors] == [
        {"pointer": "/items/0/note", "code": "forbidden-character"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\\n\\t",
        "😀",
        "\\ud83d\\ude00",
        "مرحبا",
        "አማርኛ",
        "𒀀",
        "e\u0301",
        "\u202e",
        "\\\\u0000",
        "\\\\ud800",
    ],
)
def test_texts_of_the_world_are_kept(text: str) -> None:
    raw = f'{{"a": "{text}"}}'
    assert parse(raw.encode()) == json.loads(raw)


def test_limits_themselves_are_allowed() -> None:
    assert parse(b"[" * 32 + b"]" * 32) is not None
    assert len(parse(json.dumps({f"k{n}": n for n in range(1000)}).encode())) == 1000
    assert parse(b"[9007199254740992,-9007199254740992,1e300]") == [2**53, -(2**53), 1e300]


def test_the_name_of_a_member_is_not_repeated() -> None:
    with pytest.raises(Problem) as caught:
        parse(b'{"MARKER zq": "\\u0000", "zq\\u0001": 1}')
    assert "zq" not in repr(caught.value.errors)


@given(VALUES)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_fail_otherwise_than_as_a_problem(data: bytes) -> None:
    status = 400
    try:
        parse(data)
    except Problem as problem:
        status = problem.status
    assert status in (400, 422)
