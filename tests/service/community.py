"""Organisations in a running service, made over HTTP as a steward and a member would, and which worker answers whom."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cli.service import Service, minga

SCOPES = ["records:read", "records:write", "organisation:manage"]


@dataclass(frozen=True)
class Member:
    """An organisation with its first credential and a token."""

    id: str
    credential: str
    client: tuple[str, str]
    headers: dict[str, str]


class Patient(httpx.HTTPTransport):
    """Asks again while the worker that answers has not got its database back (503)."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        limit = time.monotonic() + 300
        while (answer := super().handle_request(request)).status_code == 503 and time.monotonic() < limit:
            answer.close()
            time.sleep(0.2)
        return answer


def token(service: Service, client: tuple[str, str]) -> dict[str, str]:
    """The header that carries a new token of this client."""
    form = {"grant_type": "client_credentials"}
    with httpx.Client(transport=Patient(), timeout=300) as patient:
        answer = patient.post(f"{service.url}/oauth/token", data=form, auth=client)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def demonstration(service: Service) -> dict[str, str]:
    """The header of the member that comes with an embedded database."""
    told = json.loads((service.data / "demo-credential.json").read_bytes())
    return token(service, (told["client_id"], told["client_secret"]))


def steward(service: Service, folder: Path, **settings: str) -> dict[str, str]:
    """The header of a first steward, made on the command line beside the running service."""
    words = ("--name", "Example CSO A", "--country", "UY", "--kind", "cso", "--json")
    made = json.loads(minga("admin", "organisation", "add", *words, cwd=folder, **settings).stdout)
    words = ("--organisation", made["id"], "--label", "stewardship", "--scope", "steward", "--json")
    told = json.loads(minga("admin", "credential", "add", *words, cwd=folder, **settings).stdout)
    return token(service, (told["client_id"], told["client_secret"]))


def admit(service: Service, by: dict[str, str], **details: Any) -> Member:
    """An organisation admitted by a steward, its entry claimed."""
    body = {"name": "Example CSO A", "kind": "civil-society-organisation", "country": "CD", **details}
    with httpx.Client(base_url=service.url, timeout=300) as client:
        admitted = client.post("/v1/organisations", json=body, headers=by)
        assert admitted.status_code == 201, admitted.text
        claimed = client.post("/v1/organisations/claim", json={"claim_code": admitted.json()["claim_code"]})
        assert claimed.status_code == 201, claimed.text
    told = claimed.json()
    pair = (told["client_id"], told["client_secret"])
    return Member(admitted.json()["id"], told["id"], pair, token(service, pair))


@contextmanager
def each_worker(service: Service, count: int) -> Iterator[list[httpx.Client]]:
    """A client for each worker: its one connection was accepted by that worker and is kept open."""
    clients: list[httpx.Client] = []
    found: dict[int, httpx.Client] = {}
    limit = time.monotonic() + 120
    try:
        while len(found) < count:
            assert time.monotonic() < limit, "one worker accepts every connection"
            client = httpx.Client(base_url=service.url, timeout=300, limits=httpx.Limits(max_connections=1))
            clients.append(client)
            port = client.get("/healthz").extensions["network_stream"].get_extra_info("client_addr")[1]
            found.setdefault(_accepted_by(service, port), client)
        yield list(found.values())
    finally:
        for client in clients:
            client.close()


def _accepted_by(service: Service, client_port: int) -> int:
    """The process on the other side of a connection from this port."""
    server = f":{int(service.url.rpartition(':')[2]):04X}"
    ends = f":{client_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(server) and words[2].endswith(ends):
            return next(process for process in _children(service.process.pid) if _holds(process, words[9]))
    raise AssertionError("the connection is gone")


def unread(service: Service) -> list[int]:
    """For each connection that clients hold to the service, the bytes they sent which nobody has read yet."""
    server, established = f":{int(service.url.rpartition(':')[2]):04X}", "01"
    found = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(one[4].partition(":")[2], 16) for one in found if one[1].endswith(server) and one[3] == established]


def _children(parent: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _holds(process: int, inode: str) -> bool:
    folder = Path(f"/proc/{process}/fd")
    for name in os.listdir(folder):
        try:
            if os.readlink(folder / name) == f"socket:[{inode}]":
                return True
        except OSError:
            continue
    return False


def seconds_until(condition: Callable[[], object], limit: float) -> float:
    """How long it took until the condition held. Errors: AssertionError when it does not in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < limit, f"not within {limit} s"
        time.sleep(0.02)
    return time.monotonic() - begun
