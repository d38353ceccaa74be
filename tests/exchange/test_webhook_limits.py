"""Webhooks: whose rights they act with, and what an organisation may not make of them."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
import standardwebhooks
from fastapi import FastAPI

from app.exchange import messages, webhooks
from app.identity import credentials, networks
from app.kinds.issues import ISSUES
from app.settings import Settings
from tests.conftest import SCOPES, SECRET, MakeOrganisation, Member
from tests.exchange.receiving import active, has_status, log, receiving, registered, shown, until
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data", founding_data=False, rate_limit="off", pool_size=12, webhook_loopback=True
    )


async def made(client: httpx.AsyncClient, owner: Member, **given: object) -> dict[str, object]:
    answer = await client.post("/v1/issues", json=publishable(ISSUES, **given), headers=owner.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_webhook_ends_with_its_credential_and_goes_on_with_another(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "CHALLENGE_PAUSE_SECONDS", 0)
    owner = await make_organisation()
    async with app.state.database.transaction() as connection:
        stolen = await credentials.add(connection, SECRET, owner.id, "Stolen laptop", SCOPES)
    answer = await client.post(
        "/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=(stolen["client_id"], stolen["client_secret"]),
    )
    thief = Member(owner.id, owner.name, "", "", "", {"Authorization": f"Bearer {answer.json()['access_token']}"})
    async with receiving() as receiver:
        webhook = await active(client, thief, receiver.url)
        assert (await shown(client, owner, webhook))["credential_id"] == str(stolen["id"])
        revoked = await client.delete(f"/v1/credentials/{stolen['id']}", headers=owner.headers)
        assert revoked.status_code in (200, 204), revoked.text
        await made(client, owner, tlp="amber+strict")
        await until(lambda: has_status(client, owner, webhook, "disabled"))
        assert (await shown(client, owner, webhook))["reason"] == "credential-ended"
        assert receiver.messages == []
        enabled = await client.post(f"/v1/webhooks/{webhook['id']}/enable", headers=owner.headers)
        assert enabled.status_code == 202
        assert enabled.json()["credential_id"] != str(stolen["id"])
        await until(lambda: has_status(client, owner, webhook, "active"))
        await until(lambda: [message["type"] for message in receiver.messages] == ["record.upserted"])


async def test_messages_are_what_the_contract_says(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    models = {name: model for name, _, model in messages.MESSAGES}
    async with receiving() as receiver:
        webhook = await active(client, owner, receiver.url)
        record = await made(client, owner, tlp="green")
        await until(lambda: receiver.messages)
        erased = await client.post(f"{record['url']}/erase", headers={**owner.headers, "If-Match": '"1"'})
        assert erased.status_code == 200, erased.text
        await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)
        async with app.state.database.connection() as connection:
            await connection.execute("UPDATE organisation SET access_epoch = access_epoch + 1")
        app.state.identity.forget()
        await until(lambda: {json.loads(body)["type"] for body in receiver.bodies} == set(models))
    for body in receiver.bodies:
        message = json.loads(body)
        checked = models[message["type"]].model_validate(message, extra="forbid").model_dump(mode="json")
        assert message == {**checked, "data": {name: value for name, value in checked["data"].items() if value}}
    assert any(json.loads(body)["data"].get("erased") for body in receiver.bodies)


async def test_reading_is_needed_to_be_told(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    blind = await make_organisation(scopes=["webhooks:manage"])
    body = {"url": "https://hooks.example.org/", "label": "x"}
    answer = await client.post("/v1/webhooks", json=body, headers=blind.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient-scope")


async def test_registering_again_and_again_is_no_way_to_pester_an_address(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "REGISTRATIONS_AN_HOUR", 3)
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    async with receiving() as receiver:
        statuses = []
        for _ in range(5):
            body = {"url": receiver.url, "label": "x"}
            answer = await client.post("/v1/webhooks", json=body, headers=owner.headers)
            statuses.append(answer.status_code)
            if answer.status_code == 201:
                await client.delete(f"/v1/webhooks/{answer.json()['id']}", headers=owner.headers)
        assert statuses == [201, 201, 201, 429, 429]
        assert int(answer.headers["Retry-After"]) > 0
        await registered(client, other, receiver.url)


async def test_second_rotation_ends_the_oldest_secret(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    async with receiving() as receiver:
        webhook = await active(client, owner, receiver.url)
        rotate = f"/v1/webhooks/{webhook['id']}/rotate"
        second, third = [(await client.post(rotate, headers=owner.headers)).json()["secret"] for _ in range(2)]
        await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)
        await until(lambda: receiver.messages)
        for secret in (second, third):
            assert standardwebhooks.Webhook(secret).verify(receiver.bodies[-1], receiver.headers[-1])
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(webhook["secret"]).verify(receiver.bodies[-1], receiver.headers[-1])


async def test_log_forgets_which_records_the_organisation_may_no_longer_know(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    network = await make_organisation("Example Network", network=True, kind="network")
    owner, member = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    async with app.state.database.transaction() as connection:
        await networks.add_member_by_operator(connection, network.id, member.id)
    app.state.identity.forget()
    async with receiving() as receiver:
        webhook = await active(client, member, receiver.url)
        receiver.status = 503
        record = await made(client, owner, tlp="amber", audience=[str(network.id)])
        open_ = await made(client, owner, tlp="green")
        await until(lambda: receiver.messages)
        of_record = [entry["record_id"] for entry in await log(client, member, webhook) if entry["record_id"]]
        assert set(of_record) <= {record["id"], open_["id"]}
        assert record["id"] in of_record
        left = await client.delete(f"/v1/networks/{network.id}/members/{member.id}", headers=member.headers)
        assert left.status_code in (200, 204), left.text
        assert record["id"] not in json.dumps(await log(client, member, webhook))
        async with app.state.database.transaction() as connection:
            blind = await credentials.add(connection, SECRET, member.id, "Blind", ["webhooks:manage"])
        answer = await client.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(blind["client_id"], blind["client_secret"]),
        )
        seen = Member(member.id, "", "", "", "", {"Authorization": f"Bearer {answer.json()['access_token']}"})
        assert {entry["record_id"] for entry in await log(client, seen, webhook)} == {None}
        await until(lambda: has_in_log(client, member, webhook, str(open_["id"])))


async def has_in_log(client: httpx.AsyncClient, owner: Member, webhook: dict[str, object], text: str) -> bool:
    return text in json.dumps(await log(client, owner, webhook))


async def test_pings_do_not_pile_up(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    owner = await make_organisation()
    async with receiving() as receiver:
        webhook = await active(client, owner, receiver.url)
        receiver.status = 503
        test = f"/v1/webhooks/{webhook['id']}/test"
        statuses = [(await client.post(test, headers=owner.headers)).status_code for _ in range(12)]
        assert statuses == [202] * 10 + [409] * 2


async def test_redelivery_asked_for_during_a_delivery_waits_for_its_end(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    async with receiving() as receiver:
        webhook = await active(client, owner, receiver.url)
        receiver.delay_seconds = 2
        await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)
        await until(lambda: receiver.messages)
        (first,) = [entry for entry in await log(client, owner, webhook) if entry["event"] == "webhook.ping"]
        again = f"/v1/webhooks/{webhook['id']}/deliveries/{first['id']}/redeliver"
        await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)
        for _ in range(5):
            assert (await client.post(again, headers=owner.headers)).status_code == 202
            await asyncio.sleep(0.2)
        await until(lambda: len(receiver.messages) >= 2)
        assert receiver.most_at_once == 1
