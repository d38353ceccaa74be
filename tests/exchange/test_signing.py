"""Signatures that both official Standard Webhooks libraries and our own client accept, and nothing else does."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks

from app.client.errors import WebhookError
from app.client.webhooks import verify_webhook
from app.exchange.signing import key_of, new_secret, signature_headers

BODY = '{"type":"record.changed","data":{"id":"0190","title":"Évaluation – تقييم"}}'.encode()


def test_new_secrets_are_long_and_differ() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(key_of(first)) == 32


@pytest.mark.parametrize(
    "bad", ["", "whsec_", "whsec_%%%", "whsec_" + b64encode(b"x" * 23).decode(), b64encode(b"x" * 32).decode()]
)
def test_short_or_shapeless_secret_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):
        signature_headers([bad], "msg_1", 1, BODY)


def test_signing_needs_a_secret_and_a_plain_id() -> None:
    with pytest.raises(ValueError):
        signature_headers([], "msg_1", 1, BODY)
    with pytest.raises(ValueError):
        signature_headers([new_secret()], "msg.1", 1, BODY)


def test_official_python_library_accepts_old_and_new_secret_during_rotation() -> None:
    new, old = new_secret(), new_secret()
    headers = signature_headers([new, old], "msg_1", int(time.time()), BODY)
    for secret in (new, old):
        assert standardwebhooks.Webhook(secret).verify(BODY, headers) == json.loads(BODY)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(new_secret()).verify(BODY, headers)


def test_own_client_accepts_what_the_official_library_signs() -> None:
    secret, now = new_secret(), int(time.time())
    signature = standardwebhooks.Webhook(secret).sign("msg_1", datetime.fromtimestamp(now, UTC), BODY.decode())
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(now), "Webhook-Signature": f"v1a,zzz {signature}"}
    assert verify_webhook(secret, headers, BODY) == json.loads(BODY)


def test_own_client_refuses_forgeries_and_old_messages() -> None:
    secret, now = new_secret(), int(time.time())
    good = signature_headers([secret], "msg_1", now, BODY)
    assert verify_webhook(secret, good, BODY)
    bad: list[tuple[str, dict[str, str], bytes]] = [
        (new_secret(), good, BODY),
        ("whsec_%", good, BODY),
        (secret, good, BODY + b" "),
        (secret, {**good, "webhook-id": "msg_2"}, BODY),
        (secret, {**good, "webhook-timestamp": str(now - 1)}, BODY),
        (secret, {**good, "webhook-timestamp": "soon"}, BODY),
        (secret, {**good, "webhook-timestamp": "٣"}, BODY),
        (secret, {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}, BODY),
        (secret, {**good, "webhook-signature": ""}, BODY),
        (secret, {name: value for name, value in good.items() if name != "webhook-id"}, BODY),
        (secret, signature_headers([secret], "msg_1", now - 301, BODY), BODY),
        (secret, signature_headers([secret], "msg_1", now + 301, BODY), BODY),
        (secret, signature_headers([secret], "msg_1", now, b"[]"), b"[]"),
        (secret, signature_headers([secret], "msg_1", now, b"{"), b"{"),
    ]
    for with_secret, headers, body in bad:
        with pytest.raises(WebhookError):
            verify_webhook(with_secret, headers, body, now=now)


NODE_SCRIPT = """
const { Webhook } = require("standardwebhooks");
const { secrets, headers, body } = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(secrets.map(secret => {
  try { return new Webhook(secret).verify(body, headers); } catch (error) { return null; }
})));
"""


def test_official_javascript_library_accepts_our_signatures(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    modules = os.environ.get("TEST_NODE_MODULES", "")
    if not (Path(modules or ".") / "standardwebhooks").is_dir():
        pytest.skip("set TEST_NODE_MODULES to a node_modules folder that holds standardwebhooks")
    new, old, other = new_secret(), new_secret(), new_secret()
    headers = signature_headers([new, old], "msg_1", int(time.time()), BODY)
    done = subprocess.run(
        [node, "-e", NODE_SCRIPT],
        input=json.dumps({"secrets": [new, old, other], "headers": headers, "body": BODY.decode()}),
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert json.loads(done.stdout) == [json.loads(BODY), json.loads(BODY), None]
