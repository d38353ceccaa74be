"""Problems: every refusal the service can utter, with a stable code (RFC 9457).

`CODES` is law: a code that is not in it cannot be raised, and the table in docs/problems.md and the OpenAPI document
are made from it. Titles are fixed sentences; no problem repeats what the client sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a body: JSON Pointer of the place, and a code."""

    pointer: str
    code: str
    detail: str | None = None

    def as_json(self) -> dict[str, str]:
        """The member of `errors` this fault becomes."""
        shown = {"pointer": self.pointer, "code": self.code}
        return shown if self.detail is None else {**shown, "detail": self.detail}


CODES: dict[str, tuple[int, str]] = {
    # 400: the request itself is malformed
    "malformed-json": (400, "The body is not strict JSON in UTF-8."),
    "invalid-parameter": (400, "A query parameter is unknown or has a value it cannot have."),
    "invalid-cursor": (400, "The cursor was not made for this request."),
    "invalid-header": (400, "A request header has a value it cannot have."),
    "bad-request": (400, "The request is malformed."),
    # 401, 403: who is calling
    "invalid-token": (401, "The access token is missing, expired, revoked or not valid here."),
    "insufficient-scope": (403, "The token's scopes do not cover this request."),
    "not-owner": (403, "Only the owner organisation may do this."),
    "not-permitted": (403, "This organisation may not do this."),
    # 404, 405, 406, 409, 410, 412, 413, 415
    "not-found": (404, "There is nothing here that you may see."),
    "method-not-allowed": (405, "This method does not exist here."),
    "idempotency-in-flight": (409, "A request with this Idempotency-Key is still running."),
    "secret-already-shown": (409, "The answer to this Idempotency-Key held a secret, which is shown only once."),
    "external-id-taken": (409, "Your organisation already uses this external_id for another record of this kind."),
    "owner-unlisted": (409, "An unlisted organisation cannot publish to readers who may not know it exists."),
    "illegal-transition": (409, "The present status or stage does not allow this."),
    "quarantined": (409, "A steward has taken this record out of publication."),
    "conflict": (409, "The present state does not allow this."),
    "withdrawn": (410, "The owner has withdrawn this record."),
    "resync-required": (410, "Start again from a fresh export: your access has changed since this cursor was made."),
    "stale-version": (412, "The record has changed since the version you name in If-Match."),
    "body-too-large": (413, "The body is larger than this address accepts."),
    "uri-too-long": (414, "The address of the request is too long."),
    "unsupported-media-type": (415, "This address takes another content type."),
    # 422: understood, but not acceptable
    "invalid-body": (422, "The body does not fit the schema."),
    "not-publishable": (422, "The record lacks what publishing needs."),
    "reference-not-readable": (422, "A reference names a record you may not read, or that does not exist."),
    "marking-not-supported": (422, "TLP:RED is for named persons; tokens belong to organisations."),
    "audience-not-applicable": (422, "An audience goes with amber and amber+strict only."),
    "audience-not-found": (422, "The audience names an organisation you may not see, or that does not exist."),
    "use-verb": (422, "Status changes by its own verbs once a record exists."),
    "read-only-field": (422, "A field the service sets differs from what it is."),
    "idempotency-mismatch": (422, "This Idempotency-Key was used with another body."),
    # 428, 429, 431
    "precondition-required": (428, "Send If-Match with the version you read."),
    "rate-limited": (429, "Too many requests; wait as long as Retry-After says."),
    "headers-too-large": (431, "The request headers are too large."),
    # 5xx
    "internal": (500, "Something went wrong on our side."),
    "unavailable": (503, "The service cannot answer right now; try again."),
    "insufficient-storage": (507, "There is no room for this now; try again later."),
}


@dataclass(slots=True)
class Problem(Exception):
    """A refusal with a stable code. Raise it anywhere; the handler in `app.http.handlers` puts it on the wire."""

    code: str
    detail: str | None = None
    errors: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise LookupError(f"{self.code} is not in CODES")

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return CODES[self.code][0]

    @property
    def title(self) -> str:
        """The fixed sentence that goes with the code."""
        return CODES[self.code][1]


def register(codes: Mapping[str, tuple[int, str]]) -> None:
    """Adds the codes a room above needs; two rooms cannot give one code two meanings."""
    for code, meaning in codes.items():
        if CODES.setdefault(code, meaning) != meaning:
            raise ValueError(f"{code} already means something else")
