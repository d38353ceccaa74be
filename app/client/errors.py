"""What can go wrong when talking to Minga: one tree, so `except MingaError` catches all of it."""

from collections.abc import Mapping, Sequence
from typing import Any


class MingaError(Exception):
    """Anything this library raises on purpose."""


class TransportError(MingaError):
    """The service could not be reached, or the line broke, and retrying did not help."""


class ProblemError(MingaError):
    """The service answered with a problem (RFC 9457). `code` is stable; `errors` names the places in the body."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after_seconds: float | None = None) -> None:
        self.status = status
        self.code = str(problem.get("code") or "unknown")
        self.title = str(problem.get("title") or f"The service answered with status {status}.")
        self.detail: str | None = problem.get("detail")
        self.errors: Sequence[Mapping[str, Any]] = problem.get("errors") or ()
        self.request_id: str | None = problem.get("request_id")
        self.problem: Mapping[str, Any] = dict(problem)
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{self.code}: {self.detail or self.title}")


class NotAuthorisedError(ProblemError):
    """The credential is wrong, revoked or lacks a scope (401, 403, or a refusal of the token endpoint)."""


class NotFoundError(ProblemError):
    """There is nothing there, or nothing this organisation may see (404; 410 `withdrawn`)."""


class ConflictError(ProblemError):
    """The record is not as the caller thought (409, 412, 428): read it again, then decide."""


class RateLimitedError(ProblemError):
    """Too many requests, and the patience of this client is used up (429)."""


class ResyncRequiredError(ProblemError):
    """What the organisation may read has changed: start again without a cursor; what then is not sent is gone (410)."""


class WebhookError(MingaError):
    """A received webhook is not genuine, or too old."""
