"""How what this room holds looks on the wire, as schemas of the OpenAPI document. Answers are built by hand."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.identity.profile import KindOfOrganisation, Listing


class OrganisationName(BaseModel):
    """An organisation as others name it."""

    id: UUID
    name: str


class OrganisationView(BaseModel):
    """An organisation. `listing` and `external_id` are shown to itself and to stewards."""

    id: UUID
    url: str
    name: str
    acronym: str | None
    names: dict[str, str]
    kind: KindOfOrganisation
    country: str | None
    region: str | None
    network: bool
    status: Literal["not-claimed", "invited", "active", "suspended", "left"]
    listing: Listing = Field("members", description="Only for the organisation itself and stewards.")
    external_id: str | None = Field(None, description="Only for the organisation itself and stewards.")
    website: str | None
    languages: list[str]
    sources: list[Any]
    version: int
    created_at: datetime
    updated_at: datetime


class InvitedOrganisation(OrganisationView):
    """An organisation waiting to be claimed, with the code to hand over by a channel both sides trust."""

    claim_code: str = Field(description="Shown once; good for 72 hours and one use.")
    claim_expires_at: datetime


class CredentialView(BaseModel):
    """A credential without its secret."""

    id: UUID
    client_id: str
    label: str
    scopes: list[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the hour.")
    previous_expires_at: datetime | None = Field(description="Until when the secret before the last rotation works.")
    created_at: datetime


class NewCredentialView(CredentialView):
    """A credential with its secret, the only time it is shown."""

    client_secret: str


class ClaimedCredentialView(NewCredentialView):
    """The first credential of an organisation that has just claimed its entry."""

    organisation: OrganisationName


class MembershipView(BaseModel):
    """An organisation in a network, or on its way into it."""

    id: UUID
    network: OrganisationName
    organisation: OrganisationName
    status: Literal["invited", "requested", "active", "ended"] = Field(
        description="`invited` by the network, `requested` by the organisation, `active` once both agreed."
    )
    network_agreed_at: datetime | None
    organisation_agreed_at: datetime | None
    by_operator: bool = Field(description="The operator of this node recorded both consents.")
    ended_at: datetime | None
    ended_by: Literal["network", "organisation", "operator"] | None


class ActorView(BaseModel):
    """Who acted. A steward's organisation is named to stewards and to itself."""

    kind: Literal["credential", "steward", "operator", "system"]
    organisation: UUID | None
    credential: UUID | None


class AuditEventView(BaseModel):
    """Something done about access."""

    id: UUID
    at: datetime
    action: str = Field(description="`thing.verb`, such as `credential.revoke`.")
    actor: ActorView
    organisation: UUID | None = Field(description="The organisation concerned.")
    details: dict[str, Any]


class TokenView(BaseModel):
    """The token of this request."""

    jti: str
    expires_at: datetime


class MeView(BaseModel):
    """Who the service takes the caller for."""

    organisation: OrganisationView
    credential: CredentialView
    scopes: list[str] = Field(description="Scopes of this token.")
    networks: list[OrganisationName] = Field(description="Networks it is an active member of.")
    memberships: list[MembershipView] = Field(description="Its memberships, also those that wait for a consent.")
    token: TokenView
    limits: dict[str, Any] | None = Field(description="Budgets of requests; null where there are none.")
