"""A receiver of webhooks that keeps account: every attempt by its webhook-id, and now and then one that it refuses."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Account:
    """What came: `attempts` and `accepted` by webhook-id; the next message is refused when `refuse` is set."""

    url: str = ""
    refuse: bool = False
    attempts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, message_id: str, message: dict[str, Any]) -> bool:
        """Whether the message is accepted."""
        with self.lock:
            if message["type"] == "webhook.challenge":
                return True
            self.attempts.setdefault(message_id, []).append(message)
            if self.refuse and message_id not in self.refused:  # twice, and it would wait for minutes
                self.refuse = False
                self.refused.add(message_id)
                return False
            self.accepted[message_id] = message
            return True

    def by_record(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Accepted messages by record and webhook-id, each with all its attempts.

        Errors: AssertionError when one webhook-id spoke of two records.
        """
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        with self.lock:
            for message_id in self.accepted:
                attempts = self.attempts[message_id]
                (record_id,) = {one["data"]["id"] for one in attempts}
                found.setdefault(record_id, {})[message_id] = list(attempts)
        return found


@contextmanager
def keeping_account() -> Iterator[Account]:
    """A receiver on this machine for the time of the block."""
    account = Account()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            good = account.note(self.headers["webhook-id"], message)
            answer = json.dumps(message["data"]).encode()  # a challenge is echoed
            self.send_response(200 if good else 500)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    account.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield account
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
