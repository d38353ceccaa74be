"""How the client talks: tokens, retries and problems, written once for blocking and asynchronous use.

A flow is a generator. It yields what it needs (a request to send, or seconds to wait) and is sent the response; the two
clients in `blocking` and `asynchronous` are the only places that do the sending and waiting.
"""

import random
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import httpx

from app.client.errors import (
    ConflictError,
    MingaError,
    NotAuthorisedError,
    NotFoundError,
    ProblemError,
    RateLimitedError,
    ResyncRequiredError,
    TransportError,
)

T = TypeVar("T")
Query = Mapping[str, Any]
RENEW_BEFORE_SECONDS = 30
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 20.0
REFUSED_FOR_NOW = frozenset({429, 503})
BROKEN_ON_THE_WAY = frozenset({502, 504})
SAFE_METHODS = frozenset({"GET", "HEAD"})
TOKEN = re.compile(r"[!-~]{1,8192}")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Send:
    """A request to send; with `stream` the body of a good answer is left unread."""

    request: httpx.Request
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait."""

    seconds: float


Flow = Generator[Send | Pause, httpx.Response | None, T]
Body = bytes | Callable[[], Iterator[bytes] | AsyncIterator[bytes]]


def problem_of(response: httpx.Response) -> ProblemError:
    """The error that goes with an answer of 400 or more; its body has been read."""
    try:
        document = response.json()
    except (ValueError, RecursionError):
        document = {}
    if not isinstance(document, dict):
        document = {}
    if "error" in document and "code" not in document:  # the token endpoint answers as RFC 6749 says
        document = {"code": document["error"], "detail": document.get("error_description"), **document}
    status, code = response.status_code, document.get("code")
    kind: type[ProblemError] = ProblemError
    if status in (401, 403) or code in ("invalid_client", "invalid_scope"):
        kind = NotAuthorisedError
    elif code == "resync-required":
        kind = ResyncRequiredError
    elif status in (404, 410):
        kind = NotFoundError
    elif status in (409, 412, 428):
        kind = ConflictError
    elif status == 429:
        kind = RateLimitedError
    return kind(status, document, retry_after(response))


def retry_after(response: httpx.Response) -> float | None:
    """Seconds the service asks to wait, or None."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None


@dataclass
class Session:
    """Where the service is, who is calling, and how patient to be. Both clients hold one."""

    base_url: str
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    scope: str | None = None
    retries: int = 5
    longest_wait_seconds: float = 60.0
    language: str | None = None
    insecure: bool = False
    _renew_at: float = field(default=float("inf"), init=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError("the address of the service looks like https://example.org")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK and not self.insecure:
            raise ValueError("a secret is not sent over plain http; use https, or `insecure` on a line you trust")
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("give client_id and client_secret together")

    def url(self, path: str) -> str:
        """`path` below the address of the service.

        An absolute address (`next`, `Location`) is taken relative to it, so a token never goes to another host.
        """
        if "://" in path:
            try:
                parts = urlsplit(path)
            except ValueError as error:
                raise MingaError(f"this address cannot be asked: {error}") from None
            below = urlsplit(self.base_url).path
            path = parts.path.removeprefix(below) + (f"?{parts.query}" if parts.query else "")
        return self.base_url + (path if path.startswith("/") else f"/{path}")

    def request(self, http: Any, method: str, path: str, **given: Any) -> httpx.Request:
        """A request as the HTTP client builds it."""
        try:
            request: httpx.Request = http.build_request(method, self.url(path), **given)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise MingaError(f"this address cannot be asked: {error}") from None
        return request

    def _pause(self, attempt: int, asked: float | None) -> float:
        # Full jitter, so that a thousand clients cut off together do not come back together.
        backoff = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311
        return backoff if asked is None else asked + random.uniform(0, 0.5)  # noqa: S311

    def authorise(self, http: Any) -> Flow[None]:
        """Gets a token when there is a credential and no token that lasts another 30 s. Errors: NotAuthorisedError."""
        if self.client_id is None or self.client_secret is None or (self.token and time.monotonic() < self._renew_at):
            return
        pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
        headers = {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        response = yield from self._exchange(
            lambda: self.request(http, "POST", "/oauth/token", data=form, headers=headers), repeatable=True
        )
        granted = document_of(response)
        token, lasts = granted.get("access_token"), granted.get("expires_in")
        if not isinstance(token, str) or not TOKEN.fullmatch(token) or not isinstance(lasts, int | float):
            raise MingaError("the service sent no token")
        self.token = token
        self._renew_at = time.monotonic() + lasts - RENEW_BEFORE_SECONDS

    def call(
        self,
        http: Any,
        method: str,
        path: str,
        *,
        params: Query | None = None,
        json: Any = None,
        content: Body | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Flow[httpx.Response]:
        """The answer to a request, after renewing the token and retrying where that is safe.

        A POST carries an Idempotency-Key, the same at each attempt, so a repeated one has one effect.

        Errors: TransportError, ProblemError.
        """
        sent = {"Accept": "application/json", **(headers or {})}
        if self.language and "Accept-Language" not in sent:
            sent["Accept-Language"] = self.language
        if method == "POST":
            sent.setdefault("Idempotency-Key", str(uuid4()))
        given: dict[str, Any] = {"json": json} if json is not None else {}
        if params and (pairs := parameters(params)):
            path = f"{path}{'&' if '?' in path else '?'}{urlencode(pairs)}"
        if timeout is not None:
            given["timeout"] = timeout

        def build() -> httpx.Request:
            authorisation = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            body = {"content": content() if callable(content) else content} if content is not None else {}
            return self.request(http, method, path, headers={**sent, **authorisation}, **given, **body)

        for last in (False, True):
            yield from self.authorise(http)
            try:
                return (yield from self._exchange(build, repeatable=method in SAFE_METHODS | {"POST"}, stream=stream))
            except NotAuthorisedError as error:
                # The key that signed the token may have been retired early: one fresh token, then no more.
                if error.status != 401 or last or self.client_id is None:
                    raise
                self.token = None
        raise AssertionError("unreachable")

    def _exchange(
        self, build: Callable[[], httpx.Request], *, repeatable: bool, stream: bool = False
    ) -> Flow[httpx.Response]:
        attempt = 0
        while True:
            asked: float | None = None
            try:
                response = yield Send(build(), stream)
            except httpx.TransportError as error:
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                if not (repeatable or unsent) or attempt >= self.retries:
                    raise TransportError(f"{type(error).__name__}: no answer from {self.base_url}") from error
            else:
                if response is None:
                    raise AssertionError("a flow is sent the response to what it yields")
                if response.status_code < 300 or response.status_code == 304:
                    return response
                if response.status_code < 400:
                    # Whoever answers so (a proxy, a hotel's log-in page) has done nothing of what was asked.
                    raise MingaError("the service sends elsewhere, and that is not followed")
                problem = problem_of(response)
                asked = problem.retry_after_seconds
                busy = (
                    problem.status in REFUSED_FOR_NOW
                    or (problem.status in BROKEN_ON_THE_WAY and repeatable)
                    or problem.code == "idempotency-in-flight"
                )
                if not busy or attempt >= self.retries or (asked or 0) > self.longest_wait_seconds:
                    raise problem
            yield Pause(self._pause(attempt, asked))
            attempt += 1


def parameters(query: Query) -> list[tuple[str, str]]:
    """A query as the service reads it: None is left out, lists repeat, truth is `true` and `false`."""
    found: list[tuple[str, str]] = []
    for name, value in query.items():
        values: Iterable[Any] = value if isinstance(value, list | tuple | set | frozenset) else [value]
        for one in values:
            if one is not None:
                found.append((name, str(one).lower() if isinstance(one, bool) else str(one)))
    return found


def document_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer. Errors: MingaError when it holds something else."""
    try:
        document = response.json()
    except (ValueError, RecursionError):
        raise MingaError("the service sent no JSON") from None
    if not isinstance(document, dict):
        raise MingaError("the service sent no JSON object")
    return document
