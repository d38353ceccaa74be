"""The visibility matrix: principal × marking × status × surface, against the reference model (requirement V1)."""

import httpx
import pytest
from fastapi import FastAPI

from app.http.openapi import build_document
from app.kinds import CASES, KINDS
from app.records import read
from app.records.filters import Filter
from app.records.kind import Kind
from app.records.marking import parameters, visible_to
from tests.conftest import MakeOrganisation
from tests.visibility.model import GONE, HIDDEN
from tests.visibility.surfaces import (
    DELIBERATION_SURFACES,
    NO_RECORD,
    ORGANISATION_SURFACES,
    RECORD_SURFACES,
    TELLS_NOT_OF_GOING,
)
from tests.visibility.world import World, expected, world_of

pytestmark = pytest.mark.anyio

CHOICES = (None, {"draft"}, {"published"}, {"draft", "published"}, {"draft", "published", "withdrawn"})
ON_EVERY_KIND = {("GET", "/v1/{plural}"), ("GET", "/v1/{plural}/{id}")}


def operations(app: FastAPI) -> set[tuple[str, str]]:
    """Every operation of the document, what all kinds have folded into one; a kind's own verbs stand for themselves."""
    plurals = {kind.plural for kind in KINDS}
    found: dict[tuple[str, str], set[str]] = {}
    for path, methods in build_document(app)["paths"].items():
        steps = path.split("/")
        if len(steps) > 2 and steps[2] in plurals:
            steps[2] = "{plural}"
        elif steps[1:3] == ["v1", "exports"]:
            steps[3] = "{plural}." + steps[3].rpartition(".")[2]
        for method in methods.keys() - {"parameters"}:
            found.setdefault((method.upper(), "/".join(steps)), set()).add(path)
    return {
        (method, path)
        for (method, folded), paths in found.items()
        for path in ([folded] if len(paths) == len(plurals) else paths)
    }


async def test_every_operation_has_its_place(app: FastAPI) -> None:
    """A new operation is placed in surfaces.py, with a probe or a reason, before anything else passes."""
    placed = [*RECORD_SURFACES, *ORGANISATION_SURFACES, *DELIBERATION_SURFACES, *NO_RECORD]
    assert len(placed) == len(set(placed)), "one place for each operation"
    assert sorted(operations(app) - set(placed)) == []
    assert sorted(set(placed) - operations(app)) == []


async def compare(world: World, surfaces: set[tuple[str, str]]) -> None:
    """Every principal on every surface learns of every record exactly what the model says."""
    wrong = []
    for surface in sorted(surfaces):
        probe = RECORD_SURFACES[surface]
        for principal in world.principals.values():
            for entry in world.entries:
                wanted = expected(principal, entry)
                if surface in TELLS_NOT_OF_GOING and wanted == GONE:
                    wanted = HIDDEN
                try:
                    found = await probe(world, principal, entry)
                except AssertionError as error:
                    found = f"failed: {error}"
                if found not in (None, wanted):
                    wrong.append(f"{surface} {principal.name}: {entry.name}: {found}, should be {wanted}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong[:40]])


async def compare_forms(world: World) -> None:
    """The two forms of the rule and the model agree, for every caller and every choice of statuses."""
    for principal in world.principals.values():
        caller = await world.caller(principal)
        if caller is None:
            continue
        open_ids = {entry.id for entry in world.entries if expected(principal, entry) == "open"}
        async with world.app.state.database.connection() as connection:
            cursor = await connection.execute(
                f"SELECT id::text FROM record WHERE kind = '{world.kind.name}' AND {visible_to(caller)}",
                parameters(caller),
            )
            assert {row[0] for row in await cursor.fetchall()} == open_ids, principal.name
            for statuses in (
                None,
                {"draft"},
                {"published"},
                {"draft", "published"},
                {"draft", "published", "withdrawn"},
            ):
                chosen = None if statuses is None else frozenset(statuses)
                rows = await read.page(
                    connection,
                    caller,
                    world.kind.name,
                    filters=Filter(statuses=chosen),
                    sort="-created_at",
                    after=None,
                    limit=200,
                )
                kinds_of_status = {
                    entry.id: "draft" if entry.marked.status == "quarantined" else entry.marked.status
                    for entry in world.entries
                }
                wanted = {one for one in open_ids if statuses is None or kinds_of_status[one] in statuses}
                if statuses and "withdrawn" in statuses and principal is world.owner:
                    wanted |= {one for one, status in kinds_of_status.items() if status == "withdrawn"}
                assert {str(row.id) for row in rows} == wanted, (principal.name, statuses)
                counted, _ = await read.total(connection, caller, world.kind.name, Filter(statuses=chosen))
                assert counted == len(wanted), (principal.name, statuses)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
async def test_items_lists_and_both_forms_of_the_rule(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    async with world_of(app, client, make_organisation, kind, small=kind is not CASES) as world:
        await compare_forms(world)
        await compare(world, ON_EVERY_KIND)


@pytest.mark.parametrize("part", range(3))
async def test_every_other_surface(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, part: int
) -> None:
    async with world_of(app, client, make_organisation, CASES) as world:
        await compare(world, set(sorted(set(RECORD_SURFACES) - ON_EVERY_KIND)[part::3]))
