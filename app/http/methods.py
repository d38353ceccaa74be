"""Which methods exist at an address."""

import re
from collections.abc import Mapping
from functools import lru_cache

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

_PARAMETER = re.compile(r"\{[^}:]+(:[a-z]+)?\}")


@lru_cache(maxsize=8)
def _table(app: FastAPI) -> tuple[tuple[re.Pattern[str], frozenset[str]], ...]:
    """(pattern of the path, methods) of each route of `app`."""
    found = []
    for route in iter_route_contexts(app.routes):
        if route.path and route.methods:
            parts = []
            position = 0
            for parameter in _PARAMETER.finditer(route.path):
                parts.append(re.escape(route.path[position : parameter.start()]))
                parts.append(".+" if parameter.group(1) == ":path" else "[^/]+")
                position = parameter.end()
            parts.append(re.escape(route.path[position:]))
            found.append((re.compile("".join(parts)), frozenset(route.methods)))
    return tuple(found)


def allowed(app: FastAPI, path: str, headers: Mapping[str, str]) -> list[str]:
    """Methods that exist at `path`, sorted; at least those the router itself named in `headers`."""
    methods = {item.strip() for item in headers.get("allow", headers.get("Allow", "")).split(",") if item.strip()}
    for pattern, known in _table(app):
        if pattern.fullmatch(path):
            methods |= known
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)
