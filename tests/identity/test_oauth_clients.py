"""Clients nobody here wrote get tokens from a live server and verify them (safety A1, A3)."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager

import jwt
import psycopg
import pytest
import uvicorn
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session

from app.db.pool import driver_url
from app.identity import credentials, organisations
from app.main import create_app
from app.settings import Settings
from tests.conftest import SECRET


class Live:
    """A service on the loopback interface, with one credential."""

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self.url = url
        self.client_id = client_id
        self.client_secret = client_secret
        self.token_url = f"{url}/oauth/token"


@pytest.fixture
def live(settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    for library in ("OAUTHLIB", "AUTHLIB"):
        monkeypatch.setenv(f"{library}_INSECURE_TRANSPORT", "1")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = create_app(settings, database_url=database_url, secret=SECRET, public_url=url)
        made: dict[str, str] = {}
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def with_credential(application: object):  # type: ignore[no-untyped-def]
            async with inner(app):
                async with app.state.database.transaction() as connection:
                    organisation = await organisations.add(connection, name="Example CSO A", kind="cso", country="CD")
                    made.update(await credentials.add(connection, SECRET, organisation.id, "client"))
                yield

        app.router.lifespan_context = with_credential
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield Live(url, made["client_id"], made["client_secret"])
        finally:
            server.should_exit = True
            thread.join()


def verified(live: Live, token: str) -> dict[str, object]:
    """The claims, verified by PyJWT with the keys it fetched itself."""
    key = jwt.PyJWKClient(f"{live.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    claims: dict[str, object] = jwt.decode(token, key.key, algorithms=["ES256"], audience=live.url, issuer=live.url)
    return claims


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_authlib(live: Live, way: str) -> None:
    with AuthlibSession(live.client_id, live.client_secret, token_endpoint_auth_method=way) as client:
        client.trust_env = False
        metadata = client.get(f"{live.url}/.well-known/oauth-authorization-server", withhold_token=True).json()
        assert way in metadata["token_endpoint_auth_methods_supported"]
        token = client.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", scope="records:read")
        assert client.get(f"{live.url}/v1/me").json()["scopes"] == ["records:read"]
        assert verified(live, token["access_token"])["client_id"] == live.client_id
        answer = client.introspect_token(metadata["introspection_endpoint"], token=token["access_token"])
        assert answer.json()["active"] is True
        assert client.revoke_token(metadata["revocation_endpoint"], token=token["access_token"]).status_code == 200
        assert client.get(f"{live.url}/v1/me").status_code == 401


@pytest.mark.parametrize("in_form", [False, True])
def test_requests_oauthlib(live: Live, in_form: bool) -> None:
    with OAuth2Session(client=BackendApplicationClient(live.client_id)) as client:
        client.trust_env = False
        token = client.fetch_token(
            live.token_url,
            client_id=live.client_id,
            client_secret=live.client_secret,
            include_client_id=in_form,
        )
        assert verified(live, token["access_token"])["scope"]
        assert client.get(f"{live.url}/v1/me").json()["organisation"]["name"] == "Example CSO A"


def test_what_is_stored_of_a_token_request_is_the_hour(live: Live, database_url: str) -> None:
    """`last_used_at` is coarse: enough to see that a credential is in use, not when."""
    with AuthlibSession(live.client_id, live.client_secret) as client:
        client.trust_env = False
        client.fetch_token(live.token_url, grant_type="client_credentials")
    with psycopg.connect(driver_url(database_url)) as connection:
        row = connection.execute("SELECT last_used_at = date_trunc('hour', last_used_at) FROM credential").fetchone()
    assert row == (True,)
