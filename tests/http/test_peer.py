"""Whom a request without a token is counted for, also behind a reverse proxy."""

from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from app.http.buckets import ADDRESS
from app.settings import Settings
from tests.conftest import PUBLIC_URL, running_app

pytestmark = pytest.mark.anyio


async def left(transport: httpx.ASGITransport, forwarded: str | None) -> int:
    """What is left of the budget of the address a request is counted for, after it."""
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        answer = await client.get("/v1/issues", headers=headers)
    assert answer.status_code == 200
    name, figures, *_ = answer.headers["RateLimit"].split(";")
    assert name == '"address"'
    return ADDRESS.burst - int(figures.removeprefix("r="))


async def test_proxy_of_the_operator_says_who_calls_and_nobody_else_does(database_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, founding_data=False, trusted_proxies="127.0.0.1, 10.0.0.0/8")
    async with running_app(settings, database_url) as app:
        app.state.limiter.buckets._clock = lambda: 1000.0  # nothing comes back meanwhile
        proxy, stranger = [httpx.ASGITransport(app, client=(host, 1)) for host in ("127.0.0.1", "192.0.2.9")]
        assert await left(proxy, "192.0.2.1") == 1
        assert await left(proxy, "192.0.2.2") == 1
        assert await left(proxy, "192.0.2.66, 192.0.2.1") == 2, "what stands in front the caller wrote itself"
        assert await left(proxy, "192.0.2.1, 10.1.1.1") == 3, "a second proxy of the operator's"
        assert await left(proxy, "2001:db8::1") == 1
        assert await left(proxy, "2001:db8::2") == 2
        assert await left(proxy, "::ffff:192.0.2.1") == 4
        assert await left(proxy, "nonsense") == 1
        assert await left(proxy, None) == 2
        assert await left(stranger, "192.0.2.1") == 1, "whom a stranger names does not pay"
        assert await left(stranger, "192.0.2.2") == 2


def test_what_is_no_address_is_no_setting() -> None:
    with pytest.raises(ValidationError):
        Settings(trusted_proxies="proxy.example.org")
