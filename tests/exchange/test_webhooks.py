"""Webhooks: what is sent, to whom, with which rights, and what becomes of receivers that fail."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks
from fastapi import FastAPI

from app.exchange import webhook_sending, webhooks
from app.kinds.issues import ISSUES
from app.settings import Settings
from tests.conftest import MakeOrganisation, Member
from tests.exchange.receiving import active, has_status, log, receiving, registered, shown, until
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data", founding_data=False, rate_limit="off", pool_size=12, webhook_loopback=True
    )


async def newest(client: httpx.AsyncClient, owner: Member, webhook: dict[str, Any], **expected: Any) -> bool:
    entry = (await log(client, owner, webhook))[0]
    return {name: entry[name] for name in expected} == expected


async def made(client: httpx.AsyncClient, owner: Member, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/issues", json=publishable(ISSUES, **changes), headers=owner.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def again_at_once(app: FastAPI) -> None:
    """Lets the time of all pauses pass."""
    async with app.state.database.connection() as connection:
        await connection.execute("UPDATE webhook SET leased_until = NULL WHERE leased_by IS NULL")
        await connection.execute("UPDATE webhook_delivery SET next_attempt_at = now() WHERE status = 'pending'")


async def test_receiver_is_asked_first_and_then_told_of_what_it_may_read(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    async with receiving() as receiver:
        webhook = await active(client, other, receiver.url)
        assert "secret" not in await shown(client, other, webhook)
        green = await made(client, owner, tlp="green", title="A title that is not sent")
        await made(client, owner, tlp="amber+strict")
        await made(client, owner, status="draft")
        await until(lambda: receiver.messages)
        headers = {**owner.headers, "If-Match": '"1"'}
        await client.patch(green["url"], json={"tlp": "amber+strict"}, headers=headers)
        await until(lambda: len(receiver.messages) == 2)
        await asyncio.sleep(0.5)
        assert [(message["type"], message["data"]) for message in receiver.messages] == [
            ("record.upserted", {"kind": "issue", "id": green["id"], "version": 1}),
            ("record.removed", {"kind": "issue", "id": green["id"], "version": 2}),
        ]
        assert b"title" not in b"".join(receiver.bodies)
        library = standardwebhooks.Webhook(webhook["secret"])
        for headers, body in zip(receiver.headers, receiver.bodies, strict=True):
            assert library.verify(body, headers)
        assert {entry["status"] for entry in await log(client, other, webhook)} == {"delivered"}
        assert (await client.get(f"/v1/webhooks/{webhook['id']}", headers=owner.headers)).status_code == 404


async def test_no_message_without_an_echo(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    owner = await make_organisation()
    async with receiving() as receiver:
        receiver.echo = False
        webhook = await registered(client, owner, receiver.url)
        await until(lambda: receiver.bodies)
        await made(client, owner, tlp="green")
        await until(lambda: newest(client, owner, webhook, last_outcome="challenge-not-echoed"))
        await asyncio.sleep(1)
        assert receiver.messages == []
        assert (await shown(client, owner, webhook))["status"] == "unverified"
        answer = await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)
        assert answer.status_code == 409


async def test_nobody_is_flooded_with_challenges(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "CHALLENGE_PAUSE_SECONDS", 3600)
    owner = await make_organisation("Example CSO A")
    async with receiving() as receiver:
        receiver.echo = False
        webhook = await registered(client, owner, receiver.url)
        await until(lambda: newest(client, owner, webhook, attempts=1))
        async with app.state.database.connection() as connection:
            await connection.execute("UPDATE webhook_delivery SET created_at = now() - interval '1 day'")
        for _ in range(20):
            assert (await client.post(f"/v1/webhooks/{webhook['id']}/enable", headers=owner.headers)).status_code == 202
        await asyncio.sleep(1.5)
        assert len(receiver.bodies) <= 2, "the first, and on a slow machine its repetition before anybody asked"
        assert (await shown(client, owner, webhook))["pending"] == 1


async def test_failed_message_is_repeated_under_its_id_with_growing_pauses(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    async with receiving() as receiver:
        webhook = await active(client, owner, receiver.url)
        receiver.status = 503

        async def attempts(number: int) -> bool:
            return bool((await log(client, owner, webhook))[0]["attempts"] >= number)

        await made(client, owner, tlp="green")
        await until(lambda: receiver.messages)
        for attempt in range(1, 4):
            await until(lambda attempt=attempt: attempts(attempt))  # type: ignore[misc]
            assert len(receiver.messages) >= attempt
            await again_at_once(app)
            await until(lambda attempt=attempt: len(receiver.messages) > attempt)  # type: ignore[misc]
        receiver.status = 200

        async def delivered() -> bool:
            await again_at_once(app)
            return await newest(client, owner, webhook, status="delivered")

        await until(delivered)
        ids = [headers["webhook-id"] for headers, body in zip(receiver.headers, receiver.bodies, strict=True)]
        assert len(set(ids[1:])) == 1
        stamps = [int(headers["webhook-timestamp"]) for headers in receiver.headers]
        assert abs(stamps[-1] - time.time()) < 600
        assert sum(webhook_sending.BACKOFF_SECONDS) * 0.8 > 20 * 3600
        assert sum(webhook_sending.BACKOFF_SECONDS) > 86_400


async def test_gone_and_long_failure_disable_and_enabling_sends_what_waited(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "CHALLENGE_PAUSE_SECONDS", 0)
    owner = await make_organisation()
    async with receiving() as receiver:
        webhook = await active(client, owner, receiver.url)
        receiver.status = 410
        first = await made(client, owner, tlp="green")
        await until(lambda: has_status(client, owner, webhook, "disabled"))
        assert (await shown(client, owner, webhook))["reason"] == "gone"
        events = (await client.get("/v1/audit-events", headers=owner.headers)).json()["items"]
        assert "webhook.disable" in [event["action"] for event in events]
        await made(client, owner, tlp="green")
        sent = len(receiver.bodies)
        await asyncio.sleep(0.6)
        assert len(receiver.bodies) == sent
        receiver.status = 200
        enabled = await client.post(f"/v1/webhooks/{webhook['id']}/enable", headers=owner.headers)
        assert enabled.status_code == 202
        await until(lambda: len(receiver.messages) == 2)
        again = await client.post(f"/v1/webhooks/{webhook['id']}/redeliver", headers=owner.headers)
        assert again.json() == {"queued": 1}
        await until(lambda: receiver.messages[-1]["data"]["id"] == first["id"])
        receiver.status = 500
        await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)

        async def given_up() -> bool:
            async with app.state.database.connection() as connection:
                await connection.execute("UPDATE webhook_delivery SET attempts = 10 WHERE status = 'pending'")
            await again_at_once(app)
            return bool((await shown(client, owner, webhook))["reason"] == "failing")

        await until(given_up)
        assert (await log(client, owner, webhook, status="failed"))[0]["event"] == "webhook.ping"


async def test_slow_receiver_delays_no_other(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    async with receiving() as slow, receiving() as fast:
        await active(client, owner, slow.url)
        await active(client, other, fast.url)
        slow.delay_seconds = 3600
        for _ in range(5):
            await made(client, owner, tlp="green")
        await until(lambda: slow.messages)
        await until(lambda: len(fast.messages) == 5)
        assert slow.most_at_once == 1, "one message at a time to one receiver"


async def test_change_during_a_delivery_is_told_too(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation("Example CSO A")
    async with receiving() as receiver:
        await active(client, owner, receiver.url)
        receiver.delay_seconds = 3
        record = await made(client, owner, tlp="green")
        await until(lambda: len(receiver.messages) == 1)
        changed = await client.patch(
            f"/v1/issues/{record['id']}",
            json={"summary": "Changed while the first message was on its way."},
            headers={**owner.headers, "If-Match": '"1"'},
        )
        assert changed.status_code == 200
        await until(lambda: [message["data"]["version"] for message in receiver.messages] == [1, 2])


async def test_rights_are_those_of_the_moment_of_sending(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, named = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    async with receiving() as receiver:
        webhook = await active(client, named, receiver.url, kinds=["issues"])
        receiver.status = 500
        await made(client, owner, tlp="amber", audience=[str(named.id)])
        await until(lambda: len(receiver.messages) == 1)
        await asyncio.sleep(0.2)
        async with app.state.database.connection() as connection:
            await connection.execute("UPDATE organisation SET status = 'suspended' WHERE id = %s", [named.id])
        receiver.status = 200
        await again_at_once(app)
        await asyncio.sleep(1)
        assert len(receiver.messages) == 1, "nothing goes to a suspended organisation"
        async with app.state.database.connection() as connection:
            await connection.execute("UPDATE organisation SET status = 'active' WHERE id = %s", [named.id])
            await connection.execute(
                "UPDATE organisation SET access_epoch = access_epoch + 1 WHERE id = %s", [named.id]
            )
        app.state.identity.forget()
        await again_at_once(app)
        await until(lambda: {message["type"] for message in receiver.messages} >= {"record.upserted", "access.changed"})
        assert webhook["kinds"] == ["issue"]


async def test_two_secrets_sign_during_rotation(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    owner = await make_organisation()
    async with receiving() as receiver:
        webhook = await active(client, owner, receiver.url)
        rotated = (await client.post(f"/v1/webhooks/{webhook['id']}/rotate", headers=owner.headers)).json()
        assert rotated["secret"] != webhook["secret"]
        await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)
        await until(lambda: receiver.messages)
        for secret in (webhook["secret"], rotated["secret"]):
            assert standardwebhooks.Webhook(secret).verify(receiver.bodies[-1], receiver.headers[-1])


async def test_registration_is_strict(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    narrow = await make_organisation(scopes=["records:read"])
    good = {"url": "https://hooks.example.org/x", "label": "x"}
    assert (await client.post("/v1/webhooks", json=good)).status_code == 401
    assert (await client.post("/v1/webhooks", json=good, headers=narrow.headers)).status_code == 403
    wrong: list[tuple[dict[str, Any], str]] = [
        ({**good, "url": "http://hooks.example.org/"}, "https-required"),
        ({**good, "url": "https://10.0.0.1/"}, "address-not-public"),
        ({**good, "url": "https://u:p@hooks.example.org/"}, "not-a-web-address"),
        ({**good, "kinds": ["secret"]}, "unknown-kind"),
        ({**good, "secret": "mine"}, "unknown-field"),
        ({"url": good["url"]}, "required"),
    ]
    for body, code in wrong:
        answer = await client.post("/v1/webhooks", json=body, headers=owner.headers)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, code), answer.text
    key = {**owner.headers, "Idempotency-Key": "k"}
    made_ = [await client.post("/v1/webhooks", json=good, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in made_] == [201, 409]
    assert made_[1].json()["code"] == "secret-already-shown"
    answers = await asyncio.gather(*(client.post("/v1/webhooks", json=good, headers=owner.headers) for _ in range(14)))
    assert sorted(answer.status_code for answer in answers) == [201] * 9 + [409] * 5
    items = (await client.get("/v1/webhooks", headers=owner.headers)).json()["items"]
    assert len(items) == 10
    for item in items:
        assert (await client.delete(f"/v1/webhooks/{item['id']}", headers=owner.headers)).status_code == 204
    async with app.state.database.connection() as connection:
        row = await (await connection.execute("SELECT count(*) FROM webhook_delivery")).fetchone()
    assert row == (0,)


async def test_label_and_kinds_can_be_changed(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    owner = await make_organisation()
    webhook = await registered(client, owner, "https://hooks.example.org/x")
    changed = await client.patch(
        f"/v1/webhooks/{webhook['id']}", json={"label": "New", "kinds": ["cases"]}, headers=owner.headers
    )
    assert (changed.json()["label"], changed.json()["kinds"]) == ("New", ["case"])
    refused = await client.patch(f"/v1/webhooks/{webhook['id']}", json={"url": "https://x.org"}, headers=owner.headers)
    assert refused.status_code == 422
