"""`minga admin`: what only the operator of the node may do. Every act is written to the audit log as the operator's.

The acts are functions over one connection; `run` gives them a transaction on the database of a running service, or
starts and stops the embedded one.
"""

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from app.cli.outcome import DONE, CommandFailed, show
from app.cli.place import Place, in_transaction, read_settings, working_place
from app.db.pool import Connection
from app.http.problem import Problem
from app.identity import audit, credentials, networks, organisations, tokens
from app.identity.caller import SCOPES, Caller
from app.identity.vocabulary import KINDS as ORGANISATION_KINDS
from app.identity.vocabulary import LISTINGS
from app.kinds import KINDS
from app.records import read, store
from app.records.change import Action, Change

Act = Callable[[Connection, Place, Namespace], Awaitable[Any]]


async def add_organisation(connection: Connection, _: Place, arguments: Namespace) -> Any:
    """The new organisation, active at once."""
    made = await organisations.add(
        connection,
        name=arguments.name,
        kind=arguments.kind,
        country=arguments.country,
        region=arguments.region,
        network=arguments.network,
        listing=arguments.listing,
        actor=audit.OPERATOR,
    )
    return made.as_json()


async def suspend_organisation(connection: Connection, _: Place, arguments: Namespace) -> Any:
    """The suspended organisation: none of its tokens works within a second."""
    return (await organisations.suspend(connection, arguments.organisation, audit.OPERATOR)).as_json()


async def list_organisations(connection: Connection, _: Place, __: Namespace) -> Any:
    """Every organisation of the node, the unlisted ones too."""
    return [organisation.as_json() for organisation in await organisations.list_all(connection)]


async def add_credential(connection: Connection, place: Place, arguments: Namespace) -> Any:
    """The new credential with its secret, shown this once."""
    return await credentials.add(
        connection, place.secret, arguments.organisation, arguments.label, arguments.scope, actor=audit.OPERATOR
    )


async def rotate_credential(connection: Connection, place: Place, arguments: Namespace) -> Any:
    """The credential with a new secret; the old one works for a week more, or not at all with `--now`."""
    overlap_seconds = 0 if arguments.now else credentials.OVERLAP_SECONDS
    return await credentials.rotate(connection, place.secret, arguments.credential, overlap_seconds=overlap_seconds)


async def revoke_credential(connection: Connection, _: Place, arguments: Namespace) -> Any:
    """The revoked credential."""
    return await credentials.revoke(connection, arguments.credential)


async def add_network_member(connection: Connection, _: Place, arguments: Namespace) -> Any:
    """The membership, with both consents recorded as the operator's."""
    return await networks.add_member_by_operator(connection, arguments.network, arguments.organisation)


async def erase_record(connection: Connection, _: Place, arguments: Namespace) -> Any:
    """The erased record: its content is gone everywhere, its id, kind and times stay."""
    found = await read.kind_and_owner(connection, arguments.record)
    if found is None:
        raise Problem("not-found")
    kind = next(kind for kind in KINDS if kind.name == found[0])
    owner = Caller(organisation_id=found[1], scopes=frozenset({"organisation:manage"}))
    await store.write(connection, owner, [Change(kind, Action.ERASE, arguments.record)])
    await audit.record(
        connection,
        "record.erase",
        audit.OPERATOR,
        organisation_id=found[1],
        details={"record": str(arguments.record), "kind": kind.name},
    )
    return {"id": arguments.record, "kind": kind.name, "erased": True}


async def rotate_keys(connection: Connection, place: Place, arguments: Namespace) -> Any:
    """The new signing key; with `--now` the old ones are void at once."""
    return await tokens.rotate_keys(connection, place.secret, now=arguments.now)


def register(commands: Any) -> None:
    """Declare the command and everything below it."""
    parser: ArgumentParser = commands.add_parser("admin", help="acts of the operator")
    nouns = parser.add_subparsers(metavar="NOUN", required=True)

    organisation = nouns.add_parser("organisation", help="organisations of this node").add_subparsers(required=True)
    act = _act(organisation, "add", add_organisation, "admit an organisation")
    act.add_argument("--name", required=True)
    act.add_argument("--kind", required=True, choices=["cso", *(kind for kind in ORGANISATION_KINDS if kind != "node")])
    act.add_argument("--country", help="ISO 3166-1 alpha-2 code")
    act.add_argument("--region", help="region code; otherwise the country's")
    act.add_argument("--network", action="store_true", help="it can have member organisations")
    act.add_argument("--listing", choices=LISTINGS, default="members", help="who may know of it")
    act = _act(organisation, "suspend", suspend_organisation, "no token of it works from now on")
    act.add_argument("organisation", type=_id, metavar="ID")
    _act(organisation, "list", list_organisations, "all organisations")

    credential = nouns.add_parser("credential", help="credentials of organisations").add_subparsers(required=True)
    act = _act(credential, "add", add_credential, "make a credential; its secret is shown once")
    act.add_argument("--organisation", type=_id, required=True, metavar="ID")
    act.add_argument("--label", required=True, help="what it is for")
    act.add_argument("--scope", action="append", choices=SCOPES, help="may be repeated; default: all but steward")
    act = _act(credential, "rotate", rotate_credential, "give it a new secret")
    act.add_argument("credential", metavar="CLIENT_ID")
    act.add_argument("--now", action="store_true", help="the old secret stops working at once")
    act = _act(credential, "revoke", revoke_credential, "neither its secret nor its tokens work from now on")
    act.add_argument("credential", metavar="CLIENT_ID")

    network = nouns.add_parser("network", help="networks").add_subparsers(required=True)
    act = _act(network, "add-member", add_network_member, "record a membership that both sides want")
    act.add_argument("--network", type=_id, required=True, metavar="ID")
    act.add_argument("--organisation", type=_id, required=True, metavar="ID", help="the member")

    record = nouns.add_parser("record", help="records").add_subparsers(required=True)
    act = _act(record, "erase", erase_record, "overwrite the content of a record everywhere")
    act.add_argument("record", type=_id, metavar="ID")

    key = nouns.add_parser("key", help="signing keys").add_subparsers(required=True)
    act = _act(key, "rotate", rotate_keys, "publish a new signing key and retire the old one")
    act.add_argument("--now", action="store_true", help="for emergencies: every token signed before is void")


def run(arguments: Namespace, _: list[str]) -> int:
    """Perform the act and show what came of it. Errors: CommandFailed."""
    settings = read_settings(data_dir=arguments.data_dir)
    act: Act = arguments.act
    try:
        with working_place(settings) as place:
            result = asyncio.run(in_transaction(place, lambda connection: act(connection, place, arguments)))
    except Problem as problem:
        faults = "".join(f" {fault.pointer} {fault.code}." for fault in problem.errors)
        text = "Nothing here has that id." if problem.code == "not-found" else problem.detail or problem.title
        raise CommandFailed(f"{text}{faults}", problem.code) from problem
    show(result, json=arguments.json)
    return DONE


def _act(nouns: Any, name: str, act: Act, text: str) -> ArgumentParser:
    parser: ArgumentParser = nouns.add_parser(name, help=text, description=act.__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder of the embedded database (./data)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run, act=act)
    return parser


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError("not an id") from None
