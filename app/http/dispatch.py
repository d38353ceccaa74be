"""Finding and calling the route of a request without trying every route in turn.

The framework tries one pattern after the other; with some two hundred routes that is three times the work of answering
(docs/measurements.md). Nearly all our addresses begin with two fixed words, so a dictionary leaves one or two patterns
to try. What the index does not hold, and every 404 and 405, goes the framework's own way.

Nearly all our endpoints ask for the request, texts of the path and the caller, and give a Response. These are called
`directly`: what the framework does for other parameters costs a quarter of a read.
"""

from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction, signature
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

Key = tuple[str, int, str, str]


def _key(method: str, path: str) -> Key:
    """Method, number of steps and the first two steps of a path."""
    parts = path.split("/", 3)
    return method, path.count("/"), parts[1] if len(parts) > 1 else "", parts[2] if len(parts) > 2 else ""


def index(routes: Sequence[BaseRoute]) -> dict[Key, list[tuple[APIRoute, ASGIApp]]]:
    """The routes whose first two steps are fixed and whose number of steps is known, in order, each with its call."""
    found: dict[Key, list[tuple[APIRoute, ASGIApp]]] = {}
    for route in routes:
        if isinstance(route, APIRoute) and ":path}" not in route.path:
            call = direct(route) or route.handle
            for method in route.methods or ():
                key = _key(method, route.path)
                if "{" not in key[2] + key[3]:
                    found.setdefault(key, []).append((route, call))
    return found


def _asks_only_request(dependant: Dependant) -> bool:
    """True when nothing but the request itself is asked for, dependencies and texts of the path aside."""
    return not (
        dependant.query_params
        or dependant.header_params
        or dependant.cookie_params
        or dependant.body_params
        or dependant.websocket_param_name
        or dependant.http_connection_param_name
        or dependant.response_param_name
        or dependant.background_tasks_param_name
        or dependant.security_scopes_param_name
    )


def direct(route: APIRoute) -> ASGIApp | None:
    """A call of the endpoint with just what it asks for, or None where that takes the framework.

    Exceptions pass to the handlers of the application, as they do from any endpoint.
    """
    endpoint: Callable[..., Awaitable[Response]] = route.endpoint
    returned = signature(endpoint).return_annotation
    if not (iscoroutinefunction(endpoint) and isinstance(returned, type) and issubclass(returned, Response)):
        return None
    asked = route.dependant
    texts = all(field.field_info.annotation is str and not field.field_info.metadata for field in asked.path_params)
    plain = all(
        one.request_param_name is not None
        and iscoroutinefunction(one.call)
        and _asks_only_request(one)
        and not one.path_params
        and not one.dependencies
        for one in asked.dependencies
    )
    if not (texts and plain and _asks_only_request(asked)):
        return None
    path_names = tuple(field.name for field in asked.path_params)
    dependencies = [(one.name, str(one.request_param_name), one.call) for one in asked.dependencies]

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        values: dict[str, Any] = {name: scope["path_params"][name] for name in path_names}
        for name, takes, dependency in dependencies:
            found = await dependency(**{takes: request})  # type: ignore[misc]
            if name is not None:
                values[name] = found
        if asked.request_param_name is not None:
            values[asked.request_param_name] = request
        response = await endpoint(**values)
        await response(scope, receive, send)

    return call


def add_routes(app: FastAPI, router: APIRouter) -> None:
    """Adds the routes of `router` to `app` as they are, without a layer between."""
    app.router.routes.extend(router.routes)


def use_index(app: FastAPI) -> None:
    """Lets `app` find its routes by index. Call it once, when all routes are there."""
    known = index(app.router.routes)
    search = app.router.middleware_stack

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path"):
            for route, call in known.get(_key(scope["method"], scope["path"]), ()):
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    scope["router"] = app.router
                    scope.update(child_scope)
                    await call(scope, receive, send)
                    return
        await search(scope, receive, send)

    app.router.middleware_stack = dispatch
