"""The client against the service itself: the six journeys of the cookbook."""

import io
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.client import AsyncMinga, ConflictError, NotAuthorisedError, NotFoundError, ProblemError, ResyncRequiredError
from app.identity import networks
from app.kinds.cases import CASES
from app.kinds.findings import FINDINGS
from tests.conftest import PUBLIC_URL, MakeOrganisation, Member
from tests.exchange.follower import Follower, settled
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


def connect(app: FastAPI, member: Member | None = None, **more: Any) -> AsyncMinga:
    transport = httpx.ASGITransport(app)
    given = {} if member is None else {"client_id": member.client_id, "client_secret": member.client_secret}
    return AsyncMinga(PUBLIC_URL, transport=transport, insecure=True, **given, **more)


async def test_records_from_draft_to_withdrawal(app: FastAPI, make_organisation: MakeOrganisation) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    async with connect(app, owner) as minga, connect(app, other) as partner:
        assert (await minga.me())["organisation"]["id"] == str(owner.id)
        case = publishable(CASES, tlp="amber+strict", audience=[str(other.id)], status="draft")
        assert (await minga.preview("cases", case))["valid"]
        made = await minga.create("cases", case, key="once")
        assert await minga.create("cases", case, key="once") == made
        with pytest.raises(NotFoundError):
            await partner.get("cases", made["id"])
        made = await minga.publish("cases", made["id"], version=made["version"])
        assert (await partner.get("cases", made["id"]))["title"] == case["title"]
        with pytest.raises(NotAuthorisedError) as refused:
            await partner.patch("cases", made["id"], {"title": "mine"}, version=made["version"])
        assert refused.value.code == "not-owner"
        with pytest.raises(ConflictError) as stale:
            await minga.patch("cases", made["id"], {"title": "late"}, version=1)
        assert stale.value.code == "stale-version"
        made = await minga.replace("cases", made["id"], {**made, "title": "New title"}, version=made["version"])
        made = await minga.patch("cases", made["id"], {"audience": []}, version=made["version"])
        with pytest.raises(NotFoundError):
            await partner.get("cases", made["id"])
        await minga.withdraw("cases", made["id"], version=made["version"])
        with pytest.raises(NotFoundError) as gone:
            await minga.get("cases", made["id"])
        assert gone.value.code == "withdrawn"
        with pytest.raises(ProblemError) as invalid:
            await minga.create("cases", {"title": "", "language": "en"})
        assert invalid.value.errors[0]["pointer"] == "/title"


async def test_lists_external_ids_and_public_reading(app: FastAPI, make_organisation: MakeOrganisation) -> None:
    owner = await make_organisation()
    async with connect(app, owner) as minga, connect(app) as public:
        for number in range(7):
            body = publishable(FINDINGS, tlp="clear" if number % 2 else "green")
            await minga.put_by_external_id("findings", f"a/{number} é", body)
        assert len([one async for one in minga.records("findings", limit=3)]) == 7
        assert len([one async for one in public.records("findings", limit=2)]) == 3
        first = await anext(aiter(minga.records("findings", sort="created_at")))
        again = await minga.put_by_external_id("findings", "a/0 é", {**publishable(FINDINGS), "title": "x"}, version=1)
        assert (again["id"], again["version"]) == (first["id"], 2)


async def test_bulk_and_feed_make_an_exact_copy(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, reader = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    bodies = [publishable(FINDINGS, external_id=str(number), tlp="green") for number in range(450)]
    lines = b"".join(json.dumps(body).encode() + b"\n" for body in bodies)
    async with connect(app, owner) as minga, connect(app, reader) as partner:
        seen: list[int] = []
        report = await minga.import_records(lines, kind="finding", progress=lambda done, total: seen.append(done))
        assert (report.created, report.failed, report.status) == (450, 0, "done")
        assert seen[-1] in (450, len(lines))
        await settled(Follower(client, reader.headers))
        out = io.BytesIO()
        exported = await partner.export("findings", out)
        assert exported.rows == 450
        assert exported.size_bytes == len(out.getvalue())
        again = await minga.import_records(lines[: lines.index(b"\n") + 1] + b'{"title": ""}\n', kind="finding")
        assert (again.unchanged, again.failed, again.problems[0]["line"]) == (1, 1, 2)
        assert again.id is not None
        told = [(entry["line"], entry["pointer"]) async for entry in minga.import_entries(again.id)]
        assert told == [(problem["line"], problem["pointer"]) for problem in again.problems]
        assert not again.more
        judged = await minga.import_records(lines * 3, kind="finding", dry_run=True)
        assert judged.more
        assert judged.id is not None
        assert [entry["line"] async for entry in minga.import_entries(judged.id, after=2)] == list(range(3, 1351))
        first = await anext(aiter(minga.records("findings")))
        await minga.withdraw("findings", first["id"], version=first["version"])
        await settled(Follower(client, reader.headers))
        assert exported.feed is not None
        items = [item async for page in partner.changes(exported.feed) for item in page.items]
        assert [(item.type, item.id, item.version) for item in items] == [("removed", first["id"], 2)]


async def test_changed_access_asks_for_a_fresh_start(app: FastAPI, make_organisation: MakeOrganisation) -> None:
    network = await make_organisation("Example Network", network=True, kind="network")
    joining = await make_organisation("Example CSO B")
    async with connect(app, joining) as minga:
        (*_, last) = [page async for page in minga.changes(kinds=["case", "finding"])]
        async with app.state.database.transaction() as connection:
            await networks.add_member_by_operator(connection, network.id, joining.id)
        app.state.identity.forget()
        with pytest.raises(ResyncRequiredError):
            _ = [page async for page in minga.changes(last.next)]
