"""The operator's commands: their JSON, their exit codes, and that they share the database of a running service."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.service import minga, processes, serving, wait_until


def told(*words: str, cwd: Path, exit_code: int = 0) -> Any:
    """The one JSON document on standard output."""
    done = minga(*words, "--json", cwd=cwd)
    assert done.returncode == exit_code, done.stderr
    return json.loads(done.stdout)


def test_operator_builds_a_node_before_and_beside_the_service(tmp_path: Path) -> None:
    organisation = told(
        *("admin", "organisation", "add", "--name", "Example CSO A", "--country", "CD", "--kind", "cso"), cwd=tmp_path
    )
    assert organisation["status"] == "active"
    assert organisation["kind"] == "civil-society-organisation"
    assert organisation["region"]
    assert processes(tmp_path) == [], "the embedded database is stopped again"

    with serving(tmp_path, "--port", "0", MINGA_RATE_LIMIT="off") as service:
        network = told(
            *("admin", "organisation", "add", "--name", "Example Network", "--kind", "network", "--country", "CD"),
            cwd=tmp_path,
        )
        assert network["network"] is True
        credential = told(
            *("admin", "credential", "add", "--organisation", organisation["id"], "--label", "site"), cwd=tmp_path
        )
        assert {"client_id", "client_secret", "scopes"} <= set(credential)
        assert "steward" not in credential["scopes"]
        membership = told(
            *("admin", "network", "add-member", "--network", network["id"], "--organisation", organisation["id"]),
            cwd=tmp_path,
        )
        assert membership
        steward = told(
            *("admin", "credential", "add", "--organisation", organisation["id"], "--label", "stewardship"),
            *("--scope", "steward", "--scope", "records:read"),
            cwd=tmp_path,
        )
        assert set(steward["scopes"]) == {"steward", "records:read"}

        def token(client_id: str, client_secret: str) -> httpx.Response:
            data = {"grant_type": "client_credentials"}
            return httpx.post(f"{service.url}/oauth/token", data=data, auth=(client_id, client_secret), timeout=300)

        def works(access_token: str) -> bool:
            headers = {"Authorization": f"Bearer {access_token}"}
            return httpx.get(f"{service.url}/v1/issues", headers=headers, timeout=300).status_code == 200

        client_id = credential["client_id"]
        first = token(client_id, credential["client_secret"]).json()["access_token"]
        headers = {"Authorization": f"Bearer {first}"}
        body = {"title": "To be erased", "language": "en"}
        record = httpx.post(f"{service.url}/v1/issues", json=body, headers=headers, timeout=300).json()

        rotated = told("admin", "credential", "rotate", client_id, "--now", cwd=tmp_path)
        assert token(client_id, credential["client_secret"]).status_code == 401
        assert token(client_id, rotated["client_secret"]).status_code == 200

        assert told("admin", "record", "erase", record["id"], cwd=tmp_path)["erased"] is True
        gone = httpx.get(f"{service.url}/v1/issues/{record['id']}", headers=headers, timeout=300)
        assert gone.status_code in {404, 410}
        assert "To be erased" not in gone.text
        assert told("admin", "record", "erase", organisation["id"], cwd=tmp_path, exit_code=1)["error"]["code"]

        assert told("doctor", cwd=tmp_path) == {"ok": True, "findings": []}

        key = told("admin", "key", "rotate", "--now", cwd=tmp_path)
        assert key["kid"]
        wait_until(lambda: not works(first))
        second = token(client_id, rotated["client_secret"]).json()["access_token"]
        assert works(second)

        told("admin", "credential", "revoke", client_id, cwd=tmp_path)
        wait_until(lambda: not works(second))
        third = token(steward["client_id"], steward["client_secret"]).json()["access_token"]
        assert works(third)
        assert told("admin", "organisation", "suspend", organisation["id"], cwd=tmp_path)["status"] == "suspended"
        wait_until(lambda: not works(third))

        listed = told("admin", "organisation", "list", cwd=tmp_path)
        assert {organisation["id"], network["id"]} <= {entry["id"] for entry in listed}
        assert service.stop() == 0
    assert processes(tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        ("admin", "organisation", "add", "--name", "Example CSO A"),
        ("admin", "organisation", "suspend", "not-an-id"),
        ("admin", "credential", "add", "--organisation", "x", "--label", "y"),
        ("admin", "organisation", "list", "--no-such-option"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_document(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert told(*words, cwd=tmp_path, exit_code=2)["error"]["code"] == "usage"
    assert not (tmp_path / "data").exists()


def test_refusals_are_exit_code_1_and_one_document(tmp_path: Path) -> None:
    refused = told(
        *("admin", "organisation", "add", "--name", "Example CSO A", "--kind", "cso", "--country", "XX"),
        cwd=tmp_path,
        exit_code=1,
    )
    assert refused["error"]["code"] == "invalid-body"
    assert "/country" in refused["error"]["detail"]
    nobody = "01900000-0000-7000-8000-000000000000"
    unknown = told("admin", "organisation", "suspend", nobody, cwd=tmp_path, exit_code=1)
    assert unknown["error"]["code"] == "not-found"
    assert processes(tmp_path) == []
