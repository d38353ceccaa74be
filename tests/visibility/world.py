"""A small world: every kind of principal, and records of every marking in every status."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI

from app.identity import networks, organisations
from app.identity.audit import OPERATOR
from app.identity.caller import ANONYMOUS, SCOPES, Caller
from app.identity.tokens import InvalidToken
from app.records.kind import Kind
from tests.conftest import MakeOrganisation, Member
from tests.records.bodies import publishable
from tests.visibility.model import Marked, Who, access

STATUSES = ("draft", "published", "withdrawn", "withdrawn-draft", "erased", "quarantined", "restored")
MARKINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("clear", ()),
    ("green", ()),
    *((label, audience) for label in ("amber", "amber+strict") for audience in ((), ("named",), ("network",))),
    ("amber", ("closed network", "suspended")),
    ("amber", ("named", "network")),
)
"""(label, names in the audience) of every sort."""


@dataclass(slots=True)
class Principal:
    """Someone who asks: the headers to ask with, and what the reference model needs to know."""

    name: str
    who: Who
    headers: Mapping[str, str]
    member: Member | None = None


@dataclass(slots=True)
class Entry:
    """A record of the world, its name in messages, and what the reference model needs to know."""

    name: str
    id: str
    marked: Marked
    external_id: str
    word: str
    version: int


@dataclass(slots=True)
class World:
    """Everything a probe needs."""

    app: FastAPI
    client: httpx.AsyncClient
    kind: Kind
    principals: dict[str, Principal]
    entries: list[Entry] = field(default_factory=list)
    feeds: dict[str, str] = field(default_factory=dict)
    remembered: dict[Any, Any] = field(default_factory=dict)

    @property
    def owner(self) -> Principal:
        return self.principals["owner"]

    @property
    def url(self) -> str:
        return f"/v1/{self.kind.plural}"

    async def caller(self, principal: Principal) -> Caller | None:
        """The service's own idea of a principal; None where its token is refused."""
        if principal.member is None:
            return ANONYMOUS
        try:
            found: Caller = await self.app.state.identity.caller(principal.member.token.encode())
        except InvalidToken:
            return None
        return found


async def make_principals(app: FastAPI, make_organisation: MakeOrganisation) -> dict[str, Principal]:
    """Anonymous, and organisations that stand in every relation to the owner's networks."""
    names = ("owner", "stranger", "named", "insider", "former", "invited", "asking", "lapsed", "suspended")
    made = {name: await make_organisation(f"Example CSO {name}") for name in names}
    for name in ("network", "closed network"):
        made[name] = await make_organisation(f"Example {name}", network=True, kind="network")
    made["steward"] = await make_organisation("Example steward", scopes=SCOPES)
    made["left"] = await make_organisation("Example CSO left")
    network, closed = made["network"].id, made["closed network"].id
    async with app.state.database.transaction() as connection:
        for name, in_network in (
            ("insider", network),
            ("former", network),
            ("suspended", network),
            ("lapsed", closed),
            ("left", network),
        ):
            await networks.add_member_by_operator(connection, in_network, made[name].id)
        await networks.agree(connection, "network", network, made["invited"].id, OPERATOR)
        await networks.agree(connection, "organisation", network, made["asking"].id, OPERATOR)
        await networks.end(connection, "network", network, made["former"].id, OPERATOR)
        await organisations.suspend(connection, made["suspended"].id)
        await organisations.suspend(connection, closed)
        await organisations.leave(connection, made["left"].id, OPERATOR)
    app.state.identity.forget()
    unwelcome = {"suspended", "closed network", "left"}
    found = {"anonymous": Principal("anonymous", Who(), {})}
    for name, member in made.items():
        inside = frozenset({network}) if name == "insider" else frozenset()
        found[name] = Principal(name, Who(member.id, inside, name not in unwelcome), member.headers, member)
    return found


async def answered(call: Any) -> httpx.Response:
    answer: httpx.Response = await call
    assert answer.status_code in (200, 201), answer.text
    return answer


@asynccontextmanager
async def world_of(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind, *, small: bool = False
) -> AsyncIterator[World]:
    """The world with records of `kind`; a small one has three statuses and no second audience."""
    world = World(app, client, kind, await make_principals(app, make_organisation))
    for name, principal in world.principals.items():
        start = await client.get("/v1/changes", headers=principal.headers)
        if start.status_code == 200:
            world.feeds[name] = start.json()["next"]
    for tlp, audience in MARKINGS[:-2] if small else MARKINGS:
        for status in STATUSES[:3] if small else STATUSES:
            world.entries.append(await make_entry(world, tlp, audience, status))
    await settled(world)
    yield world


async def settled(world: World) -> None:
    """Waits until the feed has reached the last change: writing transactions of other tests hold it back."""
    newest = [entry.id for entry in world.entries if entry.marked.status == "published"][-1]
    for _ in range(200):
        page = await world.client.get("/v1/changes?limit=1000", headers=world.owner.headers)
        if newest in page.text:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the feed did not catch up")


async def make_entry(world: World, tlp: str, audience: tuple[str, ...], status: str) -> Entry:
    """A record of the owner, brought to `status` by the verbs a member would use."""
    number = len(world.entries)
    word = f"xword{number}x"
    ids = [str(world.principals[name].who.organisation) for name in audience]
    body: dict[str, Any] = publishable(
        world.kind,
        title=f"Title {word}",
        external_id=f"their-own-{number}",
        tlp=tlp,
        status="draft" if "draft" in status else "published",
    )
    if ids:
        body["audience"] = ids
    owner, client = world.owner.headers, world.client
    created = (await answered(client.post(world.url, json=body, headers=owner))).json()
    url, version = f"{world.url}/{created['id']}", 1

    async def then(method: str, path: str = "", headers: Mapping[str, str] = owner) -> None:
        nonlocal version
        await answered(client.request(method, url + path, headers={**headers, "If-Match": f'"{version}"'}))
        version += 1

    if status.startswith("withdrawn") or status in ("erased", "restored"):
        await then("DELETE")
    if status == "erased":
        await then("POST", "/erase")
    if status == "restored":
        await then("POST", "/restore")
    if status == "quarantined":
        await put_in_quarantine(world, UUID(created["id"]))
        version += 1
    now = {"withdrawn-draft": "withdrawn", "restored": "published"}.get(status, status)
    marked = Marked(
        owner=world.owner.who.organisation or UUID(int=0),
        tlp=tlp,
        audience=frozenset(UUID(one) for one in ids),
        status=now,
        was_published="draft" not in status,
    )
    return Entry(f"{tlp} {audience} {status}", created["id"], marked, f"their-own-{number}", word, version)


async def put_in_quarantine(world: World, record_id: UUID) -> None:
    """A steward's act; done with the owner's marking opened to the steward's eyes, as the store demands to see it."""
    from app.records import store
    from app.records.change import Action, Change

    owner = await world.caller(world.owner)
    assert owner is not None
    acting = Caller(owner.organisation_id, owner.credential_id, frozenset(SCOPES))
    async with world.app.state.database.transaction() as connection:
        await store.write(connection, acting, [Change(world.kind, Action.QUARANTINE, record_id)])


def expected(principal: Principal, entry: Entry) -> str:
    return access(principal.who, entry.marked)
