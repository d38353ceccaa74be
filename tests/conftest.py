"""Fixtures every room uses: a real PostgreSQL, the application over it, and organisations with tokens."""

import os
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import httpx
import hypothesis
import pytest
from fastapi import FastAPI

from app.db.embedded import EmbeddedPostgres
from app.db.pool import Database
from app.sealing import MasterSecret
from app.settings import Settings
from tests.databases import fresh_database, template, test_server

PUBLIC_URL = "http://minga.test"
SECRET = MasterSecret(bytes(range(64)))
SCOPES = (
    "records:read",
    "records:write",
    "deliberation:write",
    "exchange:bulk",
    "webhooks:manage",
    "organisation:manage",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the full-size tests too")


def pytest_configure(config: pytest.Config) -> None:
    """The same examples at each run, and as much time for each as it needs; `--slow` looks for new ones."""
    new = config.getoption("--slow", default=False)
    slow_machine = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
    hypothesis.settings.register_profile(
        "minga", deadline=None, derandomize=not new, suppress_health_check=slow_machine
    )
    hypothesis.settings.load_profile("minga")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="full size: ./minga test --slow"))


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> None:
    """The operator's environment and `.env` file do not reach the tests."""
    for name in [name for name in os.environ if name.startswith("MINGA_")]:
        del os.environ[name]
    Settings.model_config["env_file"] = None


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The PostgreSQL of this test run, shared by all its processes."""
    with test_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    return template(postgres)


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The address of a database without any table."""
    with fresh_database(postgres, None) as url:
        yield url


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The address of a migrated database of this test's own."""
    with fresh_database(postgres, migrated_template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=8) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of the application under test; a module overrides this fixture to change them."""
    return Settings(data_dir=tmp_path / "data", founding_data=False, rate_limit="off", pool_size=12)


@pytest.fixture
async def app(settings: Settings, database_url: str) -> AsyncIterator[FastAPI]:
    """The application over a fresh database, its lifespan entered."""
    async with running_app(settings, database_url) as application:
        yield application


@asynccontextmanager
async def running_app(settings: Settings, database_url: str) -> AsyncIterator[FastAPI]:
    """An application with its lifespan entered; for tests that need two at once."""
    from app.identity import tokens
    from app.main import create_app

    application = create_app(settings, database_url=database_url, secret=SECRET, public_url=PUBLIC_URL)
    async with application.router.lifespan_context(application):
        async with application.state.database.transaction() as connection:
            await tokens.ensure_key(connection, SECRET)
        yield application


@asynccontextmanager
async def client_of(application: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that calls the application in this process; errors inside it come back as 500."""
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, timeout=30) as client:
        yield client


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Member:
    """An organisation of a test, with one credential and a token."""

    id: UUID
    name: str
    client_id: str
    client_secret: str
    token: str
    headers: dict[str, str] = field(repr=False)


class MakeOrganisation(Protocol):
    """What the fixture `make_organisation` gives."""

    def __call__(
        self,
        name: str = ...,
        *,
        country: str | None = ...,
        region: str | None = ...,
        kind: str = ...,
        network: bool = ...,
        listing: str = ...,
        scopes: Sequence[str] | None = ...,
    ) -> Awaitable[Member]: ...


@pytest.fixture
def make_organisation(app: FastAPI, client: httpx.AsyncClient) -> MakeOrganisation:
    """Makes an active organisation with a credential and a token got through the real endpoint."""

    async def make(
        name: str = "Example CSO A",
        *,
        country: str | None = "CD",
        region: str | None = None,
        kind: str = "civil-society-organisation",
        network: bool = False,
        listing: str = "members",
        scopes: Sequence[str] | None = None,
    ) -> Member:
        from app.identity import credentials, organisations

        details: dict[str, Any] = {"country": country, "region": region, "network": network, "listing": listing}
        async with app.state.database.transaction() as connection:
            organisation = await organisations.add(connection, name=name, kind=kind, **details)
            made = await credentials.add(
                connection,
                app.state.secret,
                organisation_id=organisation.id,
                label="test",
                scopes=tuple(scopes or SCOPES),
            )
        answer = await client.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(made["client_id"], made["client_secret"]),
        )
        assert answer.status_code == 200, answer.text
        token = answer.json()["access_token"]
        return Member(
            id=organisation.id,
            name=name,
            client_id=made["client_id"],
            client_secret=made["client_secret"],
            token=token,
            headers={"Authorization": f"Bearer {token}"},
        )

    return make
