"""Health, index, catalogue, documentation pages: what they say, what they keep to themselves."""

import hashlib
import re
from pathlib import Path

import httpx
from fastapi import FastAPI

from app.db.pool import Database
from app.http.docs import FILES, FOLDER, SWAGGER_UI
from app.http.problem import CODES
from app.settings import Settings
from tests.conftest import PUBLIC_URL, SECRET, client_of, running_app


async def test_ready_when_everything_is_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    checks = answer.json()["checks"]
    assert {name: checks[name] for name in ("database", "migrations", "signing_key")} == {
        "database": "ok",
        "migrations": "ok",
        "signing_key": "ok",
    }
    assert 0 <= checks["feed_lag_seconds"] < 60


async def test_not_ready_before_the_newest_migration(app: FastAPI, client: httpx.AsyncClient) -> None:
    app.state.migrations_head = "9999"
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["migrations"] == "failed"
    assert answer.headers["retry-after"] == "2"


async def test_alive_but_not_ready_without_a_database(settings: Settings) -> None:
    from app.main import create_app

    app = create_app(settings, database_url="postgresql://127.0.0.1:1/none", secret=SECRET, public_url=PUBLIC_URL)
    app.state.database = Database("postgresql://127.0.0.1:1/none")
    async with client_of(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not-ready", "checks": {"database": "failed"}}


async def test_health_reveals_no_version(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz", "/"):
        answer = await client.get(path)
        assert not re.search(r"\d+\.\d+\.\d+", answer.text)


async def test_metrics_count_by_route(client: httpx.AsyncClient) -> None:
    await client.get("/v1/countries/CD")
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert re.search(r'minga_requests_total\{method="GET",route="/v1/countries/\{code\}",status="200"', answer.text)
    assert "minga_pool_pool_size" in answer.text
    assert "/CD" not in answer.text


async def test_metrics_are_not_for_everybody(app: FastAPI, client: httpx.AsyncClient) -> None:
    for headers in ({"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}):
        assert (await client.get("/metrics", headers=headers)).status_code == 404
    outside = httpx.ASGITransport(app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=outside, base_url=PUBLIC_URL) as other:
        assert (await other.get("/metrics")).status_code == 404


async def test_index_leads_everywhere(client: httpx.AsyncClient) -> None:
    links = (await client.get("/")).json()["links"] | (await client.get("/v1")).json()["links"]
    assert {"issues", "cases", "countries", "vocabularies/topics"} <= links.keys()
    for name, link in links.items():
        assert link.startswith(f"{PUBLIC_URL}/")
        answer = await client.get(link)
        assert answer.status_code in (200, 400, 401) or name == "token", name


async def test_index_publishes_the_limits(database_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, founding_data=False, workers=2)
    async with running_app(settings, database_url) as app, client_of(app) as client:
        limits = (await client.get("/v1")).json()["limits"]
    assert limits["body_bytes"] == 1_000_000
    assert limits["webhooks"] == {"per_organisation": 10, "url_bytes": 2048, "attempts": 11, "retried_for_hours": 27}
    assert limits["rates"]["workers"] == 2
    assert limits["rates"]["budgets"]["credential"] == {"per_minute": 600, "burst": 200}
    assert "bulk" in limits["rates"]["budgets"]


async def test_catalogue_is_a_linkset(client: httpx.AsyncClient) -> None:
    answer = await client.get("/.well-known/api-catalog")
    assert answer.headers["content-type"].startswith("application/linkset+json")
    (entry,) = answer.json()["linkset"]
    assert entry["service-desc"][0]["href"] == f"{PUBLIC_URL}/v1/openapi.json"


async def test_security_txt_has_what_must_be_there(client: httpx.AsyncClient) -> None:
    text = (await client.get("/.well-known/security.txt")).text
    assert re.search(r"^Contact: https?://", text, re.MULTILINE)
    assert re.search(r"^Expires: \d{4}-\d\d-\d\dT00:00:00Z$", text, re.MULTILINE)


async def test_every_problem_type_leads_to_a_page(client: httpx.AsyncClient) -> None:
    for code, (status, title) in CODES.items():
        answer = await client.get(f"/problems/{code}")
        assert answer.json() == {"code": code, "status": status, "title": title}
    page = await client.get("/problems/not-found", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "Accept" in page.headers["vary"].split(", ")
    assert (await client.get("/problems/no-such-code")).status_code == 404


async def test_docs_need_no_other_network(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "http" not in re.sub(r"<!doctype html>", "", page.text)
    used = re.findall(r'(?:src|href)="(/docs/[^"]+)"', page.text)
    assert len(used) == 4
    for path in used:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (await client.get(f"/docs/{SWAGGER_UI}/index.html")).status_code == 404


def test_docs_files_are_the_published_ones() -> None:
    sums = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == FILES.keys() - {"start.js"}
    for name, expected in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == expected, name
    assert SWAGGER_UI in (FOLDER / "VERSION").read_text()


async def test_an_address_nobody_has_says_where_the_addresses_are(client: httpx.AsyncClient) -> None:
    for path in ("/v1/issues/", "/v1/issue", "/issues"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert "GET /v1" in answer.json()["detail"]
    assert "detail" not in (await client.get("/v1/issues/01a1ffd4-1111-7111-8111-111111111111")).json()
