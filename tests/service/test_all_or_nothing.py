"""A write that fails at any of its statements, or at its commit, leaves nothing; the same write then works (W3, W8).

A trigger on every table counts the statements that write and fails at the one it is told, as a full disk would. The
count is a sequence, which a rollback does not turn back.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.settings import Settings
from tests.conftest import MakeOrganisation, Member

COUNTING = """
CREATE SEQUENCE statement_number;
CREATE TABLE fails (at bigint);
INSERT INTO fails VALUES (0);
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('statement_number') = (SELECT at FROM fails) THEN
        RAISE 'no space' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT at FROM fails) = -1 THEN
        RAISE 'no space' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fails_at_commit AFTER INSERT ON revision DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION fail_at_commit();
"""
MOST_STATEMENTS = 60
NOT_COUNTED = {"fails", "alembic_version"}


@dataclass
class Disk:
    """The database of the application, with what a test may do to it."""

    connection: psycopg.Connection[tuple[Any, ...]]
    tables: list[str]

    def fail(self, at: int) -> None:
        """The statement of that number fails from now on; 0: none, -1: the commit of a revision."""
        self.connection.execute("UPDATE fails SET at = %s", [at])
        self.connection.execute("SELECT setval('statement_number', 1, false)")

    def everything(self) -> dict[str, Any]:
        """All rows of all tables."""
        found = {}
        for table in self.tables:
            row = self.connection.execute(
                f"SELECT jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text) FROM {table} AS t"
            ).fetchone()
            found[table] = row and row[0]
        return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """No worker beside the requests: every statement that is counted belongs to the write under test."""
    return Settings(
        data_dir=tmp_path / "data", founding_data=False, rate_limit="off", pool_size=12, embedded_worker=False
    )


@pytest.fixture
def disk(database_url: str) -> Any:
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = sorted({row[0] for row in rows} - NOT_COUNTED)
        connection.execute(COUNTING)
        for table in tables:
            connection.execute(
                f"CREATE TRIGGER fails AFTER INSERT OR UPDATE OR DELETE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION fail()"
            )
        yield Disk(connection, tables)


Act = Callable[[], Awaitable[httpx.Response]]


async def fails_whole(disk: Disk, act: Act, expected: int, *, revised: bool = True) -> int:
    """Fails the act at each of its statements (`revised`: and at its commit), then lets it through.

    Gives the number of statements.
    """
    before = disk.everything()
    for at in (*([-1] if revised else []), *range(1, MOST_STATEMENTS)):
        disk.fail(at)
        answer = await act()
        if answer.status_code == expected and at > 0:
            assert disk.everything() != before
            disk.fail(0)
            return at - 1
        assert answer.status_code == 507, answer.text
        assert "Retry-After" in answer.headers
        assert disk.everything() == before, f"statement {at} left something behind"
    raise AssertionError("it never went through")


@pytest.fixture
async def member(make_organisation: MakeOrganisation) -> Member:
    return await make_organisation()


async def test_every_write_of_a_record_is_whole_or_not_at_all(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, member: Member, disk: Disk
) -> None:
    partner = await make_organisation("Example CSO A, partner")
    headers = member.headers

    async def post(path: str, body: Any, **more: str) -> httpx.Response:
        return await client.post(path, json=body, headers={**headers, **more})

    need = {"title": "Need", "language": "en", "finding_type": "need", "regions": ["AFR"], "summary": "Need"}
    need |= {"tlp": "clear", "status": "published"}
    findings = [(await post("/v1/findings", need)).json()["id"] for _ in range(2)]
    issue = {"title": "Whole", "language": "en", "summary": "Whole", "findings": findings[:1], "status": "published"}
    issue |= {"tlp": "amber", "audience": [str(partner.id)]}

    counted = {"create": await fails_whole(disk, lambda: post("/v1/issues", issue, **{"Idempotency-Key": "k"}), 201)}
    replayed = await post("/v1/issues", issue, **{"Idempotency-Key": "k"})
    assert replayed.headers["Idempotency-Replayed"] == "true"
    path = f"/v1/issues/{replayed.json()['id']}"

    def matching(version: int) -> dict[str, str]:
        return {**headers, "If-Match": f'"{version}"'}

    change = {"title": "Changed", "language": "fr", "findings": findings[1:], "tlp": "green"}
    acts: list[tuple[str, Act]] = [
        ("patch", lambda: client.patch(path, json=change, headers=matching(1))),
        ("narrow", lambda: client.patch(path, json={"tlp": "amber", "audience": []}, headers=matching(2))),
        ("withdraw", lambda: client.delete(path, headers=matching(3))),
        ("restore", lambda: client.post(f"{path}/restore", headers={**matching(4), "Idempotency-Key": "r"})),
        ("erase", lambda: client.post(f"{path}/erase", headers=matching(5))),
    ]
    for name, act in acts:
        counted[name] = await fails_whole(disk, act, 200)
    assert counted["create"] >= 6, counted
    assert min(counted.values()) >= 3, counted


async def test_every_act_on_credentials_and_memberships_is_whole_or_not_at_all(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, member: Member, disk: Disk
) -> None:
    network = await make_organisation("Example CSO A, network", kind="network", network=True, listing="public")
    label = {"label": "second", "scopes": ["records:read"]}
    key = {**member.headers, "Idempotency-Key": "k"}
    made = await fails_whole(disk, lambda: client.post("/v1/credentials", json=label, headers=key), 201, revised=False)
    assert made >= 2
    listed = (await client.get("/v1/credentials", headers=member.headers)).json()["items"]
    second = f"/v1/credentials/{listed[0]['id']}"
    members = f"/v1/networks/{network.id}/members"
    invitation = {"organisation": str(member.id)}
    acts: list[tuple[Act, int]] = [
        (lambda: client.post(f"{second}/rotate", headers=member.headers), 200),
        (lambda: client.post(f"{second}/revoke", headers=member.headers), 200),
        (lambda: client.post(members, json=invitation, headers=network.headers), 201),
        (lambda: client.post(f"{members}/me/accept", headers=member.headers), 200),
        (lambda: client.delete(f"{members}/me", headers=member.headers), 204),
    ]
    for act, expected in acts:
        before = len(disk.everything()["audit_event"])
        assert await fails_whole(disk, act, expected, revised=False) >= 2
        assert len(disk.everything()["audit_event"]) > before
