"""The gate: the one middleware every request passes first and every answer last.

Limits, Host, request id, standard headers, HEAD, counting and the last resort for failures are one piece, because each
layer of middleware costs every request.
"""

import asyncio
import logging
import os
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http import headers as standard
from app.http import limits
from app.http.handlers import log_failure, problem_response
from app.http.log import request_id as current_request_id
from app.http.metrics import Metrics
from app.http.problem import Problem

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_READ_HERE = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"x-request-id"},
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ANY_HOST = frozenset({"/healthz", "/readyz"})
_HOSTS_REMEMBERED = 256

_log = logging.getLogger("app.http")


class Gate:
    """Pure ASGI middleware. `public_url` is where problem types live and decides whether HSTS is sent."""

    def __init__(self, app: ASGIApp, *, public_url: str, allowed_hosts: str, metrics: Metrics) -> None:
        self.app = app
        self.public_url = public_url
        self.metrics = metrics
        self.fixed = standard.always(public_url)
        self.host_names = standard.allowed_hosts(public_url, allowed_hosts)
        self.hosts_seen: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it. No exception leaves the gate."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return

        started = time.perf_counter()
        size = 0
        hosts = 0
        host = length = encoding = given_id = None
        lengths = 0
        chunked = False
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name in _READ_HERE:
                if name == b"host":
                    host, hosts = value, hosts + 1
                elif name == b"content-length":
                    length, lengths = value, lengths + 1
                elif name == b"transfer-encoding":
                    chunked = True
                elif name == b"content-encoding":
                    encoding = value
                else:
                    given_id = value
        identifier = given_id if given_id and _REQUEST_ID.fullmatch(given_id) else os.urandom(12).hex().encode()
        current_request_id.set(identifier.decode())

        path: str = scope["path"]
        problem = limits.check_target(path, scope.get("raw_path") or b"", scope["query_string"])
        if size > limits.MAX_HEADER_BYTES:
            problem = Problem("headers-too-large", detail=f"Headers have at most {limits.MAX_HEADER_BYTES} bytes.")
        elif hosts != 1 or (host not in self.hosts_seen and not self._host_allowed(host or b"", path)):
            problem = Problem("bad-request", detail="The Host header does not name this service.")
        elif lengths > 1:
            problem = limits.unclear_length()
        elif problem is None and (length is not None or chunked):
            problem = limits.check_body(path, length, chunked, encoding)
            if chunked and problem is None:
                receive = limits.limited(receive, path)

        method: str = scope["method"]
        head = method == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}
        status = 0
        fixed = self.fixed

        async def send_complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = standard.complete(list(message.get("headers", ())), fixed, identifier)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            if problem is None:
                await self.app(scope, receive, send_complete)
            else:
                await problem_response(problem, self.public_url)(scope, receive, send_complete)
        except asyncio.CancelledError:
            # The service ends, and this request took longer than its grace: whoever asked may ask again.
            if status == 0:
                await problem_response(Problem("unavailable"), self.public_url)(scope, receive, send_complete)
            raise
        except Exception as error:
            log_failure(error)
            if status == 0:
                await problem_response(Problem("internal"), self.public_url)(scope, receive, send_complete)
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "-")
        if method not in _METHODS:
            method = "other"
        self.metrics.count(method, route, status, seconds)
        if _log.isEnabledFor(logging.DEBUG):
            extra = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 2)}
            _log.debug("request", extra=extra)

    def _host_allowed(self, host: bytes, path: str) -> bool:
        """True for a Host we answer to. Health checks come from machines that know us by other names."""
        name = standard.host_name(host.decode("latin-1"))
        if name in self.host_names or "*" in self.host_names:
            if len(self.hosts_seen) < _HOSTS_REMEMBERED:
                self.hosts_seen.add(host)
            return True
        return path in _ANY_HOST
