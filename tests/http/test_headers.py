"""Headers that every answer carries, whatever its status; hosts and origins that are let in."""

from pathlib import Path

import httpx
import pytest

from app.http.headers import host_name
from app.settings import Settings
from tests.conftest import client_of, running_app

PATHS = ("/", "/v1", "/healthz", "/readyz", "/docs", "/v1/things", "/v1/broken", "/nothing", "/problems/not-found")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_on_every_answer(things: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await things.request(method, path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["vary"] == "Authorization, Accept-Language, Accept-Encoding"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["x-request-id"]
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


async def test_an_endpoint_decides_about_caching(things: httpx.AsyncClient) -> None:
    answer = await things.get("/v1/things/01890000-0000-7000-8000-00000000000a")
    assert answer.headers.get_list("cache-control") == ["public, max-age=60"]


async def test_head_is_get_without_the_body(things: httpx.AsyncClient) -> None:
    answer = await things.head("/v1/things")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == (await things.get("/v1/things")).headers["content-length"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1_2.3", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ('a"b', False), ("é", False)],
)
async def test_request_ids_of_a_safe_form_are_kept(things: httpx.AsyncClient, given: str, kept: bool) -> None:
    answer = await things.get("/v1/things", headers={"X-Request-Id": given.encode()})
    assert (answer.headers["x-request-id"] == given) is kept


@pytest.mark.parametrize("host", ["minga.test", "MINGA.test:8000", "localhost", "127.0.0.1:1", "[::1]:8000"])
async def test_hosts_that_are_ours(things: httpx.AsyncClient, host: str) -> None:
    assert (await things.get("/v1/things", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["", "example.org", "minga.test.example.org", "minga.test/", "a@minga.test", "[::1"])
async def test_hosts_that_are_not(things: httpx.AsyncClient, host: str) -> None:
    assert (await things.get("/v1/things", headers={"Host": host})).status_code == 400


def test_host_names() -> None:
    assert host_name("Minga.Test:80") == "minga.test"
    assert host_name("[::1]:80") == "::1"
    assert host_name("a/b") == host_name("a?b") == host_name("a#b") == host_name("u@a") == host_name("[::") == ""


async def test_answers_are_compressed_when_asked(client: httpx.AsyncClient) -> None:
    for coding in ("zstd", "br", "gzip"):
        answer = await client.get("/v1/openapi.json", headers={"Accept-Encoding": coding})
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["vary"] == "Authorization, Accept-Language, Accept-Encoding"
        assert len(answer.content) > 100_000
    plain = await client.get("/v1/openapi.json", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


async def test_origins_are_an_exact_list(database_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, founding_data=False, rate_limit="off", cors_origins="https://a.example")
    async with running_app(settings, database_url) as app, client_of(app) as client:
        allowed = await client.get("/v1", headers={"Origin": "https://a.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        assert "access-control-allow-credentials" not in allowed.headers
        for name in ("ETag", "Link", "TLP", "RateLimit", "RateLimit-Policy"):
            assert name in allowed.headers["access-control-expose-headers"]
        assert allowed.headers["vary"].endswith("Origin")
        other = await client.get("/v1", headers={"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers
        preflight = await client.options(
            "/v1/issues", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "PATCH"}
        )
        assert preflight.status_code == 200
        assert preflight.headers["x-content-type-options"] == "nosniff"
