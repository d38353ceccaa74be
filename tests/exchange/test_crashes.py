"""kill -9 of service, worker, database, pull and export at random moments: nothing lost, nothing doubled."""

import csv
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.client import ImportReport, Minga
from app.db.migrate import ROOT
from app.kinds.findings import FINDINGS
from tests.exchange.service import Service
from tests.exchange.told import Account, keeping_account
from tests.records.bodies import publishable

NEW_LINES = (150, 150, 700)  # a part of an import has 500
NAMED_LINES = 20
WITHDRAWN = 5
PATIENCE_SECONDS = 600
VICTIMS = (
    ("worker",),
    ("service", "database"),
    ("database",),
    ("service",),
    ("worker", "database"),
    ("service", "worker"),
    ("service", "worker", "database"),
)


@dataclass
class Expected:
    """What the service has acknowledged: the titles to find, and of a record with an external id its newest."""

    unnamed: set[str] = field(default_factory=set)
    named: dict[str, str] = field(default_factory=dict)
    withdrawn: dict[str, int] = field(default_factory=dict)

    @property
    def titles(self) -> set[str]:
        return self.unnamed | set(self.named.values())


def lines_of(number: int, chance: random.Random, expected: Expected) -> tuple[set[str], dict[str, str], bytes]:
    """The new titles of a round, those of its records with an external id (half of them known), and its import."""
    unnamed = {f"Round {number}, line {line}" for line in range(NEW_LINES[number % len(NEW_LINES)])}
    known = chance.sample(sorted(expected.named), min(NAMED_LINES // 2, len(expected.named)))
    names = [*known, *(f"round-{number}-{line}" for line in range(NAMED_LINES - len(known)))]
    named = {name: f"Round {number}, record {name}" for name in names}
    bodies = [publishable(FINDINGS, title=title, tlp="green") for title in sorted(unnamed)]
    bodies += [publishable(FINDINGS, title=title, tlp="green", external_id=name) for name, title in named.items()]
    chance.shuffle(bodies)
    return unnamed, named, b"".join(json.dumps(body).encode() + b"\n" for body in bodies)


def command(service: Service, member: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    """A command of the client library, which a member's machine runs."""
    environment = {
        **service.environment,
        "XDG_CONFIG_HOME": str(service.home / "none"),
        "MINGA_URL": service.url,
        "MINGA_CLIENT_ID": member["client_id"],
        "MINGA_CLIENT_SECRET": member["client_secret"],
    }
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "app.cli", *words, "--json"], cwd=ROOT, env=environment, **silent)


def rows(path: Path) -> dict[str, str]:
    """Titles by id in an exported file, which is whole and holds nothing twice."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as lines:
            found = [(row["id"], row["title"]) for row in csv.DictReader(lines)]
    else:
        records = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
        found = [(one["id"], one["title"]) for one in records if "id" in one]
    assert len(found) == len(dict(found))
    return dict(found)


def content(folder: Path) -> dict[str, dict[str, Any]]:
    """What a pulled folder holds, by id."""
    found = [json.loads(line) for path in folder.glob("*.ndjson") for line in path.read_bytes().split(b"\n") if line]
    assert len(found) == len({one["id"] for one in found})
    return {one["id"]: one for one in found}


def exported(minga: Minga, to: Path) -> dict[str, dict[str, Any]]:
    with to.open("wb") as out:
        minga.export("findings", out)
    records = [json.loads(line) for line in to.read_bytes().split(b"\n") if line]
    return {one["id"]: one for one in records if "id" in one}


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds} s"
        time.sleep(0.2)


def kill(service: Service, victims: tuple[str, ...], chance: random.Random) -> None:
    """Kills one after the other, and starts again what an operator's supervisor would."""
    for victim in chance.sample(victims, len(victims)):
        time.sleep(chance.uniform(0, 0.2))
        if victim == "database":
            service.kill_database()
        elif victim == "service":
            service.kill()
        elif service.worker is not None:
            service.kill_worker()
    if service.process is None:
        service.start()
    if service.apart and service.worker is None:
        service.start_worker()


def one_round(
    number: int,
    chance: random.Random,
    service: Service,
    member: dict[str, str],
    minga: Minga,
    expected: Expected,
    folder: Path,
    seen: Counter[str],
) -> None:
    """An import, a pull and an export at once, and what is killed meanwhile."""
    unnamed, named, body = lines_of(number, chance, expected)
    before = expected.titles - {expected.named.get(name) for name in named}
    target = folder.with_name(f"export-{number}.{chance.choice(['ndjson', 'csv'])}")
    victims = VICTIMS[number % len(VICTIMS)]

    def send() -> ImportReport:
        return minga.import_records(body, kind="finding", key=f"round-{number}")

    with ThreadPoolExecutor(1) as aside:
        sending = aside.submit(send)
        pull = command(service, member, "pull", str(folder))
        export = command(
            service, member, "export", "findings", "--out", str(target), "--format", target.suffix.lstrip(".")
        )
        time.sleep(chance.uniform(0, 1.8))
        kill(service, victims, chance)
        for process, name in ((pull, "pull"), (export, "export")):
            if chance.random() < 0.5:
                time.sleep(chance.uniform(0, 0.5))
                process.kill()
                seen[f"{name} killed"] += process.wait(PATIENCE_SECONDS) != 0
            else:
                seen[f"{name} ended by itself"] += process.wait(PATIENCE_SECONDS) == 0
        report = sending.result(PATIENCE_SECONDS)
    made = len(unnamed) + sum(name not in expected.named for name in named)
    told = (report.status, report.created, report.updated, report.failed)
    assert told == ("done", made, len(unnamed) + len(named) - made, 0), (number, victims)
    assert send().document == report.document, "the same key again tells what was done, and does nothing"
    if target.exists():  # under its own name a file is whole, whoever was killed
        titles = list(rows(target).values())
        assert len(titles) == len(set(titles))
        old = {expected.named[name] for name in named if name in expected.named}
        assert before <= set(titles) <= before | old | unnamed | set(named.values())
        seen["export whole"] += 1
    else:
        seen["export without a file"] += export.returncode != 0
        assert export.returncode != 0
    expected.unnamed |= unnamed
    expected.named |= named
    seen["killed: " + ", ".join(victims)] += 1


def withdraw_some(minga: Minga, chance: random.Random, expected: Expected, folder: Path) -> None:
    """Some of what a pull has brought is taken back."""
    there = [one for one in content(folder).values() if one["title"] in expected.unnamed]
    for record in chance.sample(there, min(WITHDRAWN, len(there))):
        minga.withdraw("findings", record["id"], version=record["version"])
        expected.withdrawn[record["id"]] = record["version"] + 1
        expected.unnamed.remove(record["title"])


def everyone_was_told(account: Account, records: dict[str, dict[str, Any]], withdrawn: dict[str, int]) -> None:
    """Each record in its last state, by at most one message for each of its versions, and of nothing else."""
    last = {record_id: ("record.upserted", one["version"]) for record_id, one in records.items()}
    last |= {record_id: ("record.removed", version) for record_id, version in withdrawn.items()}

    def told() -> bool:
        found = account.by_record()
        states = {
            record_id: {(one["type"], one["data"]["version"]) for sent in messages.values() for one in sent}
            for record_id, messages in found.items()
        }
        return all(state in states.get(record_id, ()) for record_id, state in last.items())

    wait_until(told, PATIENCE_SECONDS + len(last) / 20)
    wait_until(lambda: account.refused <= account.accepted.keys())
    for record_id, messages in account.by_record().items():
        assert record_id in last, "a message about nothing"
        version = last[record_id][1]
        assert len(messages) <= version, "more messages than there were changes"
        assert all(one["data"]["version"] <= version for sent in messages.values() for one in sent)


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(rounds: int, tmp_path: Path) -> None:
    chance = random.Random(rounds)
    service = Service(tmp_path / "data", apart=True)
    folder, expected, seen = tmp_path / "copy", Expected(), Counter[str]()
    service.start()
    try:
        member = service.member("Example CSO A")
        identity = {name: member[name] for name in ("client_id", "client_secret")}
        with keeping_account() as account, Minga(service.url, retries=20, **identity) as minga:
            made = minga.request("POST", "/v1/webhooks", json={"url": account.url, "label": "crash"}).json()
            address = f"/v1/webhooks/{made['id']}"
            wait_until(lambda: minga.request("GET", address).json()["status"] == "active")
            for number in range(rounds):
                if (apart := number % 5 != 4) != service.apart:
                    service.restart(apart=apart)
                account.refuse = True
                one_round(number, chance, service, member, minga, expected, folder, seen)
                withdraw_some(minga, chance, expected, folder)
            records = exported(minga, tmp_path / "export.ndjson")
            assert sorted(record["title"] for record in records.values()) == sorted(expected.titles)

            def pulled() -> bool:
                assert command(service, member, "pull", str(folder)).wait(PATIENCE_SECONDS) == 0
                return content(folder) == records

            # What was committed a moment ago may still lie behind an open transaction.
            wait_until(pulled)
            everyone_was_told(account, records, expected.withdrawn)
            seen["records"] = len(records)
            seen["withdrawn"] = len(expected.withdrawn)
            seen["webhook messages"] = len(account.accepted)
            seen["attempts"] = sum(map(len, account.attempts.values()))
            seen["refused once"] = len(account.refused)
        print(json.dumps(seen, indent=1))
    finally:
        service.stop()
