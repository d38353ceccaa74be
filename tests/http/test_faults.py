"""The catalogue of finer codes: source, tables, page and contract say the same, both ways."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
from pydantic import BaseModel, ValidationError

import app.main  # noqa: F401 - every room registers its codes when it is imported
from app.cli.gate import contract
from app.db.migrate import ROOT
from app.http import body
from app.http.faults import FAULTS, OUTCOMES, PLACES, REASONS, SHARED
from app.http.problem import CODES
from app.kinds import KINDS

CODE_ARGUMENT = {
    "Fault": (1, "code"),
    "PydanticCustomError": (0, "error_type"),
    "Line": (2, "code"),
    "refuse": (1, "code"),
    "AddressRefused": (0, "code"),
}
"""Where calls that utter a code of a place have it."""
HANDED_ON = {"code", "error.code", "fault.code", "problem.code", "asked", "asked.code", "result.problem"}
HANDED_ON |= {"ended.reason", "reason", "outcome"}
"""What a call may hand on without saying it: a code that another call uttered."""
MODULES = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "app").rglob("*.py"))}


def functions(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.AST]]:
    """(call, innermost function around it, or the module)."""

    def walk(node: ast.AST, around: ast.AST) -> Iterator[tuple[ast.Call, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield child, around
            inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else around
            yield from walk(child, inner)

    return walk(tree, tree)


def literals(value: ast.expr, around: ast.AST, where: str) -> Iterator[str]:
    """The codes an expression can be; fails for one that nobody can read off the source."""
    if isinstance(value, ast.Constant):
        if value.value is not None:
            yield value.value
    elif isinstance(value, ast.IfExp):
        yield from literals(value.body, around, where)
        yield from literals(value.orelse, around, where)
    elif isinstance(value, ast.JoinedStr) and ast.unparse(value) == "f'unknown-{kind}'":
        yield from (f"unknown-{name}" for name in known_words())
    else:
        given = [
            one.value
            for one in ast.walk(around)
            if isinstance(one, ast.Assign) and [ast.unparse(target) for target in one.targets] == [ast.unparse(value)]
        ]
        text = ast.unparse(value)
        assert given or text in HANDED_ON or text.startswith("code_of("), (where, text)
        for one in given:
            yield from literals(one, around, where)


def known_words() -> set[str]:
    """What `_known` of the field types is called with: `country`, `region` …"""
    tree = MODULES[ROOT / "app" / "records" / "fields.py"]
    calls = [call for call, _ in functions(tree) if ast.unparse(call.func) == "_known"]
    assert calls
    return {ast.literal_eval(call.args[0]) for call in calls}


def uttered(arguments: dict[str, tuple[int, str]], modules: dict[Path, ast.Module] = MODULES) -> set[str]:
    found = set()
    for path, tree in modules.items():
        for call, around in functions(tree):
            name = ast.unparse(call.func).rpartition(".")[2]
            if name not in arguments:
                continue
            place, keyword = arguments[name]
            named = [one.value for one in call.keywords if one.arg == keyword]
            for value in named or call.args[place : place + 1]:
                found |= set(literals(value, around, f"{path.name}:{call.lineno}"))
    return found


def rooms(name: str, *, having: bool) -> dict[Path, ast.Module]:
    """The modules of the exchange that have, or have not, a function of this name."""
    return {
        path: tree
        for path, tree in MODULES.items()
        if path.parent.name == "exchange"
        and having == any(isinstance(one, ast.AsyncFunctionDef) and one.name == name for one in tree.body)
    }


def test_every_code_of_a_place_is_explained_and_none_is_idle() -> None:
    said = uttered(CODE_ARGUMENT) | set(body._CODES.values()) | {body.code_of("url_parsing")}
    assert said - set(CODES) == set(FAULTS)
    assert said & set(CODES) == SHARED["errors"]


def test_every_reason_is_explained_and_none_is_idle() -> None:
    ends = {"_EndedError": (0, "reason"), "_finish": (3, "reason"), "_end": (3, "reason")}
    disabled = {"_disable": (2, "reason"), "disable": (1, "reason")}
    said = uttered(ends, rooms("_attempt", having=False)) | uttered(disabled)
    assert said - set(CODES) == set(REASONS)
    assert said & set(CODES) == SHARED["reason"]


def test_every_outcome_is_explained_and_none_is_idle() -> None:
    sending = rooms("_attempt", having=True)
    (tree,) = sending.values()
    (attempt,) = [one for one in ast.walk(tree) if isinstance(one, ast.AsyncFunctionDef) and one.name == "_attempt"]
    ends = [one.value.elts[0] for one in ast.walk(attempt) if isinstance(one, ast.Return) and one.value]  # type: ignore[attr-defined]
    said = {one.value for one in ends if isinstance(one, ast.Constant)}
    (classes,) = [ast.unparse(one) for one in ends if isinstance(one, ast.JoinedStr)]
    assert classes == "f'{answer.status // 100}xx'"
    (first,) = [
        ast.literal_eval(one.value)
        for one in tree.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "SENDING"
    ]
    said |= uttered({"_finish": (3, "outcome")}, sending)
    assert said | {first, "2xx", "3xx", "4xx", "5xx"} == set(OUTCOMES)


def test_codes_are_plain_sentences_of_one_meaning() -> None:
    every = [code for codes in PLACES.values() for code in codes]
    assert len(every) == len(set(every))
    assert not set(every) & set(CODES)
    assert set().union(*SHARED.values()) <= set(CODES)
    for codes in PLACES.values():
        for code, sentence in codes.items():
            assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", code)
            assert sentence[0].isupper(), code
            assert sentence.endswith("."), code


def test_the_contract_lists_them() -> None:
    fault = json.loads(contract())["components"]["schemas"]["Fault"]
    assert fault["properties"]["code"]["enum"] == sorted({*FAULTS, *SHARED["errors"]})


async def test_each_has_a_page(client: httpx.AsyncClient) -> None:
    for place, codes in PLACES.items():
        for code, sentence in codes.items():
            answer = await client.get(f"/problems/{code}")
            assert answer.json() == {"code": code, "in": place, "title": sentence}
    page = await client.get("/problems/blank", headers={"Accept": "text/html"})
    assert FAULTS["blank"] in page.text


BAD: list[Any] = [
    None, True, 1, -1, 1.5, 10**30, "", "x", "x" * 21_000, "2025-13-45", "2025-01-01", "2025-01-01T00:00:00",
    "2025-01-01T25:00:00Z", "2025-01-01T12:00:00Z", [], [1], ["x"] * 2001, {}, {"zz": 1},
    {f"x{number}": "x" for number in range(1001)},
]  # fmt: skip


def models() -> set[type[BaseModel]]:
    """Every model that a body of a request is held against, and what stands in them."""
    found: set[type[BaseModel]] = {kind.body for kind in KINDS}
    for path, tree in MODULES.items():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for call, _ in functions(tree):
            if ast.unparse(call.func) == "validated" and isinstance(call.args[0], ast.Name):
                found.add(getattr(importlib.import_module(name), call.args[0].id))
    todo = [*found]
    while todo:
        inner = {one for field in todo.pop().model_fields.values() for one in within(field.annotation)} - found
        found |= inner
        todo += inner
    return found


def within(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from within(inner)


def test_pydantic_says_nothing_of_a_body_that_we_have_no_word_for() -> None:
    met = set()
    for model in models():
        wrong = [
            *BAD,
            *({name: bad} for name in model.model_fields for one in BAD for bad in (one, [one], {"en": one})),
        ]
        for value in wrong:
            try:
                model.model_validate(value)
            except ValidationError as error:
                met |= {one["type"] for one in error.errors(include_url=False, include_input=False)[:3]}
    assert met & body._BUILT_IN == set(body._CODES)
