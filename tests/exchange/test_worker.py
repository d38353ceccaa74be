"""The worker: it cleans up little by little, and what the database fails on stands before nobody else."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.exchange import import_upload, import_work, imports, worker
from app.exchange.worker import Worker
from app.settings import Settings
from tests.conftest import MakeOrganisation
from tests.exchange.importing import imported, issue, ndjson
from tests.exchange.receiving import registered, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", founding_data=False, rate_limit="off", webhook_loopback=True)


COUNTING = """
CREATE TABLE deleted (what text, rows integer);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO deleted SELECT TG_TABLE_NAME, count(*) FROM gone; RETURN NULL; END$$;
CREATE TRIGGER note AFTER DELETE ON import_job REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER DELETE ON webhook_delivery REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION note()
"""


async def test_what_is_long_over_goes_in_small_statements(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_upload, "PART_LINES", 10)
    owner = await make_organisation()
    webhook = await registered(client, owner, "http://127.0.0.1:9/hook")  # nobody answers there
    for number in range(4):
        await imported(
            client, owner, ndjson(*(issue(line, summary="") for line in range(30))), dry_run=bool(number % 2)
        )
    state = app.state
    async with state.database.connection() as connection:
        await connection.execute(COUNTING)
        await connection.execute(
            "INSERT INTO webhook_delivery (id, webhook_id, event, status, finished_at)"
            " SELECT gen_random_uuid(), %s, 'webhook.ping', 'delivered', now() - make_interval(days => 29 + n %% 3)"
            " FROM generate_series(1, 18000) AS n",
            [webhook["id"]],
        )
        await connection.execute(
            "UPDATE import_job SET finished_at = now() - interval '31 days'"
            " WHERE id <> (SELECT id FROM import_job ORDER BY id DESC LIMIT 1)"
        )
        cleaning = Worker(state.database, state.bell, state.kinds, state.secret, state.settings)
        async with cleaning:

            async def clean() -> bool:
                cursor = await connection.execute(
                    "SELECT (SELECT count(*) FROM webhook_delivery WHERE event = 'webhook.ping'),"
                    " (SELECT count(*) FROM import_job)"
                )
                return bool(await cursor.fetchone() == (6000, 1))

            await until(clean)
        cursor = await connection.execute("SELECT what, max(rows), sum(rows) FROM deleted GROUP BY what ORDER BY what")
        assert await cursor.fetchall() == [("import_job", 1, 3), ("webhook_delivery", 5000, 12_000)]


async def test_import_the_database_fails_on_stands_before_no_other(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "ANSWER_WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(worker, "PAUSE_AFTER_FAILURE_SECONDS", 0.01)
    owner = await make_organisation()
    real, failures = import_work._advance, 0

    async def failing(connection: Any, job: Any, *given: Any) -> None:
        nonlocal failures
        if job.id == UUID(stuck["id"]):
            failures += 1
            raise psycopg.errors.QueryCanceled("statement timeout")
        await real(connection, job, *given)

    stuck: dict[str, Any] = {"id": str(UUID(int=0))}
    go_on = asyncio.Event()
    claim = import_work.claim

    async def later(*given: Any) -> Any:
        await go_on.wait()
        return await claim(*given)

    monkeypatch.setattr(import_work, "claim", later)
    monkeypatch.setattr(import_work, "_advance", failing)
    stuck = await imported(client, owner, ndjson(issue(1)), expected=202)
    other = await imported(client, owner, ndjson(issue(2)), expected=202)
    go_on.set()

    async def done() -> bool:
        report = (await client.get(f"/v1/imports/{other['id']}", headers=owner.headers)).json()
        return bool(report["status"] == "done")

    await until(done)
    assert failures
    report = (await client.get(f"/v1/imports/{stuck['id']}", headers=owner.headers)).json()
    assert report["status"] == "running", "it is tried again"
