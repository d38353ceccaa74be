"""Finding the route of a request by an index instead of trying every route in turn.

The framework tries one pattern after the other; with some two hundred routes that is three times the work of answering
(docs/measurements.md). Nearly all our addresses begin with two fixed words, so a dictionary leaves one or two patterns
to try. What the index does not hold, and every 404 and 405, goes the framework's own way.
"""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

Key = tuple[str, int, str, str]


def _key(method: str, path: str) -> Key:
    """Method, number of steps and the first two steps of a path."""
    parts = path.split("/", 3)
    return method, path.count("/"), parts[1] if len(parts) > 1 else "", parts[2] if len(parts) > 2 else ""


def index(routes: Sequence[BaseRoute]) -> dict[Key, list[APIRoute]]:
    """The routes whose first two steps are fixed and whose number of steps is known, in their order."""
    found: dict[Key, list[APIRoute]] = {}
    for route in routes:
        if isinstance(route, APIRoute) and ":path}" not in route.path:
            for method in route.methods or ():
                key = _key(method, route.path)
                if "{" not in key[2] + key[3]:
                    found.setdefault(key, []).append(route)
    return found


def add_routes(app: FastAPI, router: APIRouter) -> None:
    """Adds the routes of `router` to `app` as they are, without a layer between."""
    app.router.routes.extend(router.routes)


def use_index(app: FastAPI) -> None:
    """Lets `app` find its routes by index. Call it once, when all routes are there."""
    known = index(app.router.routes)
    search = app.router.middleware_stack

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path"):
            for route in known.get(_key(scope["method"], scope["path"]), ()):
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    scope["router"] = app.router
                    scope.update(child_scope)
                    await route.handle(scope, receive, send)
                    return
        await search(scope, receive, send)

    app.router.middleware_stack = dispatch
