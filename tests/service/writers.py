"""Writers that note what the service acknowledged, and what must be found of it after a kill."""

import json
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.cli.service import Service, minga, wait_until
from tests.service.community import Patient, demonstration

WRITERS = 4


@dataclass
class Log:
    """What the service has acknowledged: for each record its newest version and title; and every status it gave."""

    made: dict[str, tuple[int, str]] = field(default_factory=dict)
    keys: dict[str, str | None] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def noted(self, answer: httpx.Response) -> httpx.Response:
        self.statuses[answer.status_code] += 1
        if answer.status_code == 503 and "Retry-After" not in answer.headers:
            self.faults.append("503 without Retry-After")
        return answer


def write(url: str, headers: dict[str, str], log: Log, name: str) -> None:
    """Creates records that refer to one another and amends them, until the log is over or nobody answers."""
    number = 0
    with httpx.Client(base_url=url, headers=headers, timeout=300) as client, suppress(httpx.TransportError):
        while not log.over.is_set():
            number += 1
            key = f"{name} {number} {random.random()}"
            log.keys[key] = None
            finding: dict[str, Any] = {
                "title": key,
                "language": "en",
                "finding_type": "need",
                "regions": ["AFR"],
                "summary": key,
                "status": "published",
            }
            made = log.noted(client.post("/v1/findings", json=finding, headers={"Idempotency-Key": key}))
            if made.status_code != 201:
                time.sleep(0.05)
                continue
            log.keys[key] = made.json()["id"]
            log.made["/v1/findings/" + made.json()["id"]] = (1, key)
            issue = {"title": key, "language": "en", "findings": [made.json()["id"]]}
            made = log.noted(client.post("/v1/issues", json=issue))
            if made.status_code != 201:
                continue
            path = "/v1/issues/" + made.json()["id"]
            log.made[path] = (1, key)
            title = f"{key} again"
            amended = log.noted(client.patch(path, json={"title": title}, headers={"If-Match": '"1"'}))
            if amended.status_code == 200:
                log.made[path] = (2, title)


def started(service: Service, log: Log) -> list[threading.Thread]:
    headers = demonstration(service)
    threads = [
        threading.Thread(target=write, args=(service.url, headers, log, f"writer {number}"))
        for number in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    before = len(log.made)
    wait_until(lambda: len(log.made) > before + 12)
    time.sleep(random.uniform(0, 0.3))
    return threads


def finished(log: Log, threads: list[threading.Thread]) -> None:
    log.over.set()
    for thread in threads:
        thread.join()
    log.over.clear()


def check(service: Service, log: Log) -> None:
    """Everything acknowledged is there, each key has one effect, and the doctor finds nothing."""
    headers = demonstration(service)
    with httpx.Client(base_url=service.url, headers=headers, timeout=300, transport=Patient()) as client:
        for path, (version, title) in log.made.items():
            found = client.get(path)
            assert found.status_code == 200, (path, found.text)
            told = found.json()
            # A change that went through without its answer reaching the writer may be there too.
            assert told["version"] >= version
            assert told["title"] == title or told["version"] > version
            versions = client.get(f"{path}/versions").json()["items"]
            assert [one["version"] for one in versions] == list(range(told["version"], 0, -1))
        for key, id_ in list(log.keys.items())[-WRITERS:]:
            body = {
                "title": key, "language": "en", "finding_type": "need", "regions": ["AFR"], "summary": key,
                "status": "published",
            }  # fmt: skip
            answers = {
                client.post("/v1/findings", json=body, headers={"Idempotency-Key": key}).json()["id"] for _ in range(2)
            }
            assert len(answers) == 1
            assert id_ is None or answers == {id_}
            log.made["/v1/findings/" + answers.pop()] = (1, key)
    doctor = minga("doctor", "--json", cwd=service.data.parent)
    assert json.loads(doctor.stdout) == {"ok": True, "findings": []}, doctor.stderr
    assert log.faults == []
    assert set(log.statuses) <= {200, 201, 503}
