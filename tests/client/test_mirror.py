"""A pulled folder equals what the service shows, whenever the pull was killed."""

import json
import os
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import Minga, MingaError, pull
from tests.client.fake import BASE, Fake


class Killed(BaseException):
    """The process ends here."""


def connect(fake: Fake) -> Minga:
    return Minga(BASE, client_id="c", client_secret="s", transport=httpx.MockTransport(fake))


def content(folder: Path) -> dict[str, dict[str, Any]]:
    """What the folder holds, by id; each file in order of id and without doubles."""
    found: dict[str, dict[str, Any]] = {}
    for path in folder.glob("*.ndjson"):
        records = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
        assert [one["id"] for one in records] == sorted({one["id"] for one in records})
        assert {one["kind"] for one in records} <= {path.stem}
        found |= {one["id"]: one for one in records}
    return found


def some_changes(fake: Fake, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 12)):
        record_id = f"r{chance.randrange(12):02}"
        if record_id in fake.records and chance.random() < 0.3:
            fake.remove(record_id)
        else:
            kind = fake.records.get(record_id, {}).get("kind") or ("case" if record_id < "r06" else "issue-list")
            fake.put(record_id, kind, title="Évaluation\u2028" + str(chance.random()))


def test_pull_follows_changes_and_removals(tmp_path: Path) -> None:
    fake = Fake()
    for number in range(7):
        fake.put(f"r{number}", "case" if number % 2 else "event")
    with connect(fake) as minga:
        seen: list[int] = []
        first = pull(minga, tmp_path, progress=lambda done, total: seen.append(done))
        assert (first.written, first.removed, first.fresh) == (7, 0, True)
        assert seen == [3, 6, 7]
        assert content(tmp_path) == fake.records
        asked = len(fake.requests)
        again = pull(minga, tmp_path)
        assert (again.written, again.removed, again.fresh, again.kinds) == (0, 0, False, {"case": 3, "event": 4})
        assert len(fake.requests) - asked == 2
        fake.put("r1", title="new")
        fake.remove("r2")
        later = pull(minga, tmp_path)
        assert (later.written, later.removed) == (1, 1)
        assert content(tmp_path) == fake.records
    assert os.stat(tmp_path / ".minga").st_mode & 0o077 == 0


def test_fresh_start_forgets_what_is_no_longer_sent(tmp_path: Path) -> None:
    fake = Fake()
    for number in range(7):
        fake.put(f"r{number}", "case" if number < 5 else "event")
    with connect(fake) as minga:
        pull(minga, tmp_path)
        for gone in ("r0", "r5", "r6"):
            del fake.records[gone]
        fake.epoch += 1
        report = pull(minga, tmp_path)
    assert report.fresh
    assert content(tmp_path) == fake.records
    assert (tmp_path / "event.ndjson").read_bytes() == b""


def test_other_filters_start_afresh(tmp_path: Path) -> None:
    fake = Fake()
    fake.put("r1")
    with connect(fake) as minga:
        pull(minga, tmp_path)
        assert pull(minga, tmp_path, kinds=["case"]).fresh
        assert not pull(minga, tmp_path, kinds=["case"]).fresh


def test_two_pulls_at_once_do_not_mix(tmp_path: Path) -> None:
    fake = Fake()
    fake.put("r1")
    with connect(fake) as minga:

        def second(done: int, total: int | None) -> None:
            with pytest.raises(MingaError):
                pull(minga, tmp_path)

        pull(minga, tmp_path, progress=second)


def test_torn_journal_is_used_up_to_its_last_whole_page(tmp_path: Path) -> None:
    fake = Fake()
    for number in range(7):
        fake.put(f"r{number}")
    with connect(fake) as minga:

        def die(done: int, total: int | None) -> None:
            if done == 6:
                raise Killed

        with pytest.raises(Killed):
            pull(minga, tmp_path, progress=die)
        journal = tmp_path / ".minga" / "journal.ndjson"
        whole = journal.read_bytes()
        # Around the end of each line every byte matters; within a line one place is like another.
        for cut in [at for at in range(len(whole)) if at % 10 == 0 or b"\n" in whole[max(0, at - 2) : at + 2]]:
            journal.write_bytes(whole[:cut])
            fake.requests.clear()
            pull(minga, tmp_path)
            assert content(tmp_path) == fake.records
            (tmp_path / ".minga" / "state.json").unlink()
            for path in tmp_path.glob("*.ndjson"):
                path.unlink()


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_step_the_next_pull_ends_equal(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    fake = Fake()
    some_changes(fake, chance)
    steps = {"left": 10**9}

    def counted(call: Any) -> Any:
        def step(*given: Any, **named: Any) -> Any:
            steps["left"] -= 1
            if steps["left"] == 0:
                raise Killed
            if steps["left"] == -1:
                raise AssertionError("the process is dead")
            return call(*given, **named)

        return step

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    kills = 0
    with connect(fake) as minga:
        for _ in range(60):
            if chance.random() < 0.1:
                fake.epoch += 1
            steps["left"] = chance.randrange(1, 25)
            try:
                pull(minga, tmp_path)
            except Killed:
                kills += 1
            else:
                assert content(tmp_path) == fake.records
            some_changes(fake, chance)
        steps["left"] = 10**9
        pull(minga, tmp_path)
        assert content(tmp_path) == fake.records
    assert kills > 10
