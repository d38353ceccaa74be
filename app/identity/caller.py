"""The caller: what a request may do, resolved once."""

from dataclasses import dataclass
from uuid import UUID

SCOPES = (
    "records:read",
    "records:write",
    "deliberation:write",
    "exchange:bulk",
    "webhooks:manage",
    "organisation:manage",
    "steward",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """An organisation with a token, or nobody in particular (`ANONYMOUS`).

    `network_ids` are the networks the organisation is an active member of now: what they are named in, it may read.
    """

    organisation_id: UUID | None = None
    credential_id: UUID | None = None
    scopes: frozenset[str] = frozenset()
    network_ids: tuple[UUID, ...] = ()
    access_epoch: int = 0
    unlisted: bool = False
    name: str = ""
    kind: str = ""
    region: str | None = None
    jti: str = ""
    expires_at: int = 0

    @property
    def is_member(self) -> bool:
        """True for every caller with a token of an active organisation."""
        return self.organisation_id is not None

    @property
    def is_steward(self) -> bool:
        """True for the node's own role; it reads no amber record of others."""
        return "steward" in self.scopes

    @property
    def entities(self) -> tuple[UUID, ...]:
        """The names under which an amber audience reaches this caller: itself, then its networks."""
        return () if self.organisation_id is None else (self.organisation_id, *self.network_ids)


ANONYMOUS = Caller()
