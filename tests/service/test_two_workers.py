"""Between two processes of one service: rights end everywhere, races have one winner, keys one effect."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cli.service import Service, minga, serving
from tests.service.community import admit, each_worker, seconds_until, steward, token
from tests.service.writers import Log, finished, started

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")

AT_ONCE = 50
"""Racing changes."""

ELSEWHERE_SECONDS = 1.0
SLACK_SECONDS = 0.5
"""What a busy machine may add to the second that the other worker has."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("two")
    with serving(folder, "--port", "0", "--workers", "2", MINGA_RATE_LIMIT="off", MINGA_FOUNDING_DATA="off") as running:
        yield running


@pytest.fixture(scope="module")
def by(service: Service) -> dict[str, str]:
    return steward(service, service.data.parent)


@pytest.mark.parametrize("act", ["revoked token", "revoked credential", "suspended"])
def test_rights_end_here_at_once_and_elsewhere_within_a_second(service: Service, by: dict[str, str], act: str) -> None:
    member = admit(service, by)
    with each_worker(service, 2) as (here, elsewhere):
        for client in (here, elsewhere):
            assert client.get("/v1/me", headers=member.headers).status_code == 200
        if act == "revoked token":
            form = {"token": member.headers["Authorization"].removeprefix("Bearer ")}
            done = here.post("/oauth/revoke", data=form, auth=member.client)
        elif act == "revoked credential":
            done = here.post(f"/v1/credentials/{member.credential}/revoke", headers=member.headers)
        else:
            done = here.post(f"/v1/organisations/{member.id}/suspend", headers=by)
        assert done.status_code == 200, done.text
        assert here.get("/v1/me", headers=member.headers).status_code == 401
        took = seconds_until(
            lambda: elsewhere.get("/v1/me", headers=member.headers).status_code == 401,
            ELSEWHERE_SECONDS + SLACK_SECONDS,
        )
        for path in ("/v1/issues", "/v1/cases", "/v1/organisations"):
            assert elsewhere.get(path, headers=member.headers).status_code == 401, took


def test_an_ended_membership_ends_the_view_everywhere_within_a_second(service: Service, by: dict[str, str]) -> None:
    network = admit(service, by, name="Example CSO A network", kind="network", network=True, listing="public")
    reader, owner = admit(service, by), admit(service, by)
    with each_worker(service, 2) as (here, elsewhere):
        invited = here.post(
            f"/v1/networks/{network.id}/members", json={"organisation": reader.id}, headers=network.headers
        )
        assert invited.status_code == 201, invited.text
        joined = here.post(f"/v1/networks/{network.id}/members/me/accept", headers=reader.headers)
        assert joined.status_code == 200, joined.text
        body = {
            "title": "For a network",
            "language": "en",
            "summary": "For a network",
            "tlp": "amber",
            "audience": [network.id],
            "status": "published",
        }
        made = here.post("/v1/issues", json=body, headers=owner.headers)
        assert made.status_code == 201, made.text
        path = f"/v1/issues/{made.json()['id']}"
        assert here.get(path, headers=reader.headers).status_code == 200
        seconds_until(lambda: elsewhere.get(path, headers=reader.headers).status_code == 200, 2)
        ended = here.delete(f"/v1/networks/{network.id}/members/{reader.id}", headers=network.headers)
        assert ended.status_code == 204, ended.text
        assert here.get(path, headers=reader.headers).status_code == 404
        seconds_until(
            lambda: elsewhere.get(path, headers=reader.headers).status_code == 404, ELSEWHERE_SECONDS + SLACK_SECONDS
        )
        assert elsewhere.get("/v1/issues", headers=reader.headers).json()["items"] == []


def test_of_many_racing_patches_one_wins(service: Service, by: dict[str, str]) -> None:
    member = admit(service, by)
    made = httpx.post(
        f"{service.url}/v1/issues", json={"title": "Race", "language": "en"}, headers=member.headers, timeout=300
    )
    path = f"/v1/issues/{made.json()['id']}"

    def patch(number: int) -> int:
        headers = {**member.headers, "If-Match": '"1"'}
        return httpx.patch(
            f"{service.url}{path}", json={"title": f"Race {number}"}, headers=headers, timeout=300
        ).status_code

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = Counter(threads.map(patch, range(AT_ONCE)))
    assert answers == {200: 1, 412: AT_ONCE - 1}
    versions = httpx.get(f"{service.url}{path}/versions", headers=member.headers, timeout=300).json()["items"]
    assert [one["version"] for one in versions] == [2, 1]


def test_many_posts_with_one_key_make_one_record(service: Service, by: dict[str, str]) -> None:
    member = admit(service, by)
    headers = {**member.headers, "Idempotency-Key": "one effect"}
    body = {"title": "Once", "language": "en"}

    def post(_: int) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/issues", json=body, headers=headers, timeout=300)

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(post, range(20)))
    assert {one.status_code for one in answers} <= {201, 409}
    assert {one.json()["code"] for one in answers if one.status_code == 409} <= {"idempotency-in-flight"}
    made = {one.json()["id"] for one in answers if one.status_code == 201}
    again = post(0)
    assert again.status_code == 201
    assert again.headers["Idempotency-Replayed"] == "true"
    assert made == {again.json()["id"]}
    listed = httpx.get(f"{service.url}/v1/issues?count=true", headers=member.headers, timeout=300).json()
    assert listed["total"] == 1


def test_a_key_is_its_credentials_own(service: Service, by: dict[str, str]) -> None:
    one, other = admit(service, by), admit(service, by)
    body = {"title": "Only mine", "language": "en"}
    key = {"Idempotency-Key": "the same"}
    mine = httpx.post(f"{service.url}/v1/issues", json=body, headers={**one.headers, **key}, timeout=300)
    theirs = httpx.post(f"{service.url}/v1/issues", json=body, headers={**other.headers, **key}, timeout=300)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["id"] != theirs.json()["id"]
    assert "Idempotency-Replayed" not in theirs.headers
    second = httpx.post(
        f"{service.url}/v1/credentials", json={"label": "second", "scopes": ["records:write"]}, headers=one.headers,
        timeout=300,
    ).json()  # fmt: skip
    headers = token(service, (second["client_id"], second["client_secret"]))
    again = httpx.post(f"{service.url}/v1/issues", json=body, headers={**headers, **key}, timeout=300)
    assert again.status_code == 201
    assert "Idempotency-Replayed" not in again.headers


def test_the_doctor_is_not_misled_by_writes_that_go_on(service: Service) -> None:
    log = Log()
    threads = started(service, log)
    try:
        found = json.loads(minga("doctor", "--json", cwd=service.data.parent).stdout)
    finally:
        finished(log, threads)
    assert found == {"ok": True, "findings": []}
