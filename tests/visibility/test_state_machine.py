"""Any history of acts, by anybody: what each principal finds is what the reference model says (requirement V7)."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from app.identity import credentials, networks, organisations
from app.identity.audit import OPERATOR
from app.settings import Settings
from tests.conftest import client_of, running_app
from tests.visibility.model import GONE, HIDDEN, OPEN, Marked, Who, access

LABELS = ("clear", "green", "amber", "amber+strict")
OF_RECORDS = (
    "record_reader",
    "document",
    "search_text",
    "link",
    "organisation_link",
    "revision",
    "idempotency_answer",
    "record",
)
ORGANISATIONS = 4
NETWORKS = 2


@dataclass(slots=True)
class Service:
    """The running service, with organisations that every example shares."""

    runner: asyncio.Runner
    app: Any
    client: httpx.AsyncClient
    ids: list[UUID] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def call(
        self, method: str, path: str, who: int | None, body: Any = None, version: int | None = None
    ) -> httpx.Response:
        headers = {} if who is None else dict(self.headers[who])
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        return self.runner.run(self.client.request(method, path, json=body, headers=headers))

    def act(self, work: Callable[[Any], Any]) -> None:
        """An operator's act, known to the process at once."""

        async def done() -> None:
            async with self.app.state.database.transaction() as connection:
                await work(connection)
            self.app.state.identity.forget()

        self.runner.run(done())


@dataclass(frozen=True, slots=True)
class Known:
    """The model's idea of one record."""

    id: str
    marked: Marked
    version: int
    kind: str
    refers_to: str | None = None


class Community(RuleBasedStateMachine):
    """Organisations 0–3 and networks 4–5 act; the model follows. `None` is a caller without a token."""

    service: ClassVar[Service]
    made: Bundle[str] = Bundle("made")

    @initialize()
    def begin(self) -> None:
        async def clear(connection: Any) -> None:
            for table in OF_RECORDS:
                await connection.execute(f"DELETE FROM {table}")
            await connection.execute("DELETE FROM membership")
            await connection.execute("UPDATE organisation SET status = 'active'")

        self.service.act(clear)
        self.records: dict[str, Known] = {}
        self.members: set[tuple[int, int]] = set()
        self.suspended: set[int] = set()

    def who(self, number: int | None) -> Who:
        if number is None:
            return Who()
        joined = {self.service.ids[n] for n, one in self.members if one == number and n not in self.suspended}
        return Who(self.service.ids[number], frozenset(joined), number not in self.suspended)

    def owner(self, known: Known) -> int:
        return self.service.ids.index(known.marked.owner)

    everyone: ClassVar = st.integers(0, ORGANISATIONS + NETWORKS - 1)
    networks: ClassVar = st.integers(ORGANISATIONS, ORGANISATIONS + NETWORKS - 1)
    audiences: ClassVar = st.lists(everyone, max_size=2, unique=True)

    @rule(target=made, owner=everyone, tlp=st.sampled_from(LABELS), audience=audiences, published=st.booleans())
    def create(self, owner: int, tlp: str, audience: list[int], published: bool) -> str:
        named = [str(self.service.ids[one]) for one in audience] if tlp.startswith("amber") else []
        status = "published" if published else "draft"
        body = {"title": "A finding", "language": "en", "summary": "Plain words.", "tlp": tlp, "status": status}
        body |= {"finding_type": "need", "regions": ["AFR"], **({"audience": named} if named else {})}
        answer = self.service.call("POST", "/v1/findings", owner, body)
        if owner in self.suspended:
            assert answer.status_code == 401
            return "none"
        assert answer.status_code == 201, answer.text
        marked = Marked(self.service.ids[owner], tlp, frozenset(map(UUID, named)), status, published)
        return self.keep(Known(answer.json()["id"], marked, 1, "findings"))

    def keep(self, known: Known) -> str:
        self.records[known.id] = known
        return known.id

    @rule(target=made, owner=everyone, about=made, tlp=st.sampled_from(LABELS))
    def refer(self, owner: int, about: str, tlp: str) -> str:
        """An issue that rests on a finding; refused unless every reader of the one can read the other."""
        known = self.records.get(about)
        if known is None or known.kind != "findings" or owner in self.suspended:
            return "none"
        body = {"title": "An issue", "language": "en", "summary": "Plain words.", "tlp": tlp, "status": "published"}
        answer = self.service.call("POST", "/v1/issues", owner, {**body, "findings": [about]})
        readable = access(self.who(owner), known.marked) == OPEN and known.marked.status == "published"
        narrow = LABELS.index(tlp) >= LABELS.index(known.marked.tlp)
        literal = known.marked.tlp in LABELS[:2] or self.service.ids[owner] in {
            known.marked.owner,
            *known.marked.audience,
        }
        assert answer.status_code == (201 if readable and narrow and literal else 422), answer.text
        if answer.status_code != 201:
            return "none"
        marked = Marked(self.service.ids[owner], tlp, frozenset(), "published", True)
        return self.keep(Known(answer.json()["id"], marked, 1, "issues", about))

    def change(self, record: str, method: str, path: str = "", body: Any = None) -> Known | None:
        """The record before a change by its owner that went through; None when the owner may not or cannot."""
        known = self.records.get(record)
        if known is None:
            return None
        url = f"/v1/{known.kind}/{known.id}{path}"
        answer = self.service.call(method, url, self.owner(known), body, known.version)
        if self.owner(known) in self.suspended:
            assert answer.status_code == 401
            return None
        if answer.status_code in (409, 410, 422):
            return None
        assert answer.status_code == 200, answer.text
        version = answer.json()["version"]
        self.records[record] = replace(known, version=version)
        return self.records[record]

    @rule(record=made, tlp=st.sampled_from(LABELS), audience=audiences)
    def mark(self, record: str, tlp: str, audience: list[int]) -> None:
        named = [str(self.service.ids[one]) for one in audience] if tlp.startswith("amber") else []
        body: dict[str, Any] = {"tlp": tlp} | ({"audience": named} if tlp.startswith("amber") else {})
        known = self.change(record, "PATCH", body=body)
        if known is not None:
            self.keep(replace(known, marked=replace(known.marked, tlp=tlp, audience=frozenset(map(UUID, named)))))

    @rule(record=made)
    def publish(self, record: str) -> None:
        self.move(record, "POST", "/publish", "published", was_published=True)

    @rule(record=made)
    def withdraw(self, record: str) -> None:
        self.move(record, "DELETE", "", "withdrawn")

    @rule(record=made)
    def restore(self, record: str) -> None:
        known = self.records.get(record)
        if known is not None:
            self.move(record, "POST", "/restore", "published" if known.marked.was_published else "draft")

    @rule(record=consumes(made))
    def erase(self, record: str) -> None:
        self.move(record, "POST", "/erase", "erased")

    def move(self, record: str, method: str, path: str, status: str, *, was_published: bool = False) -> None:
        known = self.change(record, method, path)
        if known is not None:
            past = known.marked.was_published or was_published
            self.keep(replace(known, marked=replace(known.marked, status=status, was_published=past)))

    @rule(network=networks, one=everyone)
    def join(self, network: int, one: int) -> None:
        if network != one and (network, one) not in self.members and not {network, one} & self.suspended:
            ids = self.service.ids
            self.service.act(lambda connection: networks.add_member_by_operator(connection, ids[network], ids[one]))
            self.members.add((network, one))

    @rule(network=networks, one=everyone)
    def leave(self, network: int, one: int) -> None:
        if (network, one) in self.members:
            ids = self.service.ids
            self.service.act(
                lambda connection: networks.end(connection, "organisation", ids[network], ids[one], OPERATOR)
            )
            self.members.discard((network, one))

    @rule(one=everyone)
    def suspend_or_reinstate(self, one: int) -> None:
        act = organisations.reinstate if one in self.suspended else organisations.suspend
        self.service.act(lambda connection: act(connection, self.service.ids[one]))
        self.suspended ^= {one}

    @invariant()
    def lists_are_as_the_model_says(self) -> None:
        if not hasattr(self, "records"):
            return
        for number in (None, *range(ORGANISATIONS + NETWORKS)):
            who = self.who(number)
            for kind in ("findings", "issues"):
                answer = self.service.call("GET", f"/v1/{kind}?limit=200&count=true&view=full", number)
                if not who.welcome:
                    assert answer.status_code == 401
                    continue
                page = answer.json()
                wanted = {
                    one.id for one in self.records.values() if one.kind == kind and access(who, one.marked) == OPEN
                }
                assert {one["id"] for one in page["items"]} == wanted, (number, kind)
                assert page["total"] == len(page["items"]) == len(wanted)
                for one in page["items"] if kind == "issues" else ():
                    about = self.records[one["id"]].refers_to
                    readable = about is not None and access(who, self.records[about].marked) == OPEN
                    assert one["findings"] == ([about] if readable else []), (number, one["id"])

    def teardown(self) -> None:
        """Every item, version and backlink, for everybody."""
        for known in getattr(self, "records", {}).values():
            url = f"/v1/{known.kind}/{known.id}"
            for number in (None, *range(ORGANISATIONS + NETWORKS)):
                who = self.who(number)
                answer = self.service.call("GET", url, number)
                wanted = access(who, known.marked)
                expected = {OPEN: 200, GONE: 410, HIDDEN: 404}[wanted] if who.welcome else 401
                assert answer.status_code == expected, (known, number)
                versions = self.service.call("GET", f"{url}/versions", number)
                if wanted == HIDDEN:
                    assert versions.status_code in (401, 404)
                if known.kind == "findings" and wanted == OPEN:
                    items = self.service.call("GET", f"{url}/backlinks", number).json()["items"]
                    assert {one["record"]["id"] for one in items} == {
                        one.id
                        for one in self.records.values()
                        if one.refers_to == known.id
                        and one.marked.status == "published"
                        and access(who, one.marked) == OPEN
                    }


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """The service in an event loop of its own, driven step by step: the machine itself is not asynchronous."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Service:
            chosen = Settings(data_dir=tmp_path / "data", founding_data=False, rate_limit="off", pool_size=4)
            app = await stack.enter_async_context(running_app(chosen, database_url))
            client = await stack.enter_async_context(client_of(app))
            started = Service(runner, app, client)
            for number in range(ORGANISATIONS + NETWORKS):
                async with app.state.database.transaction() as connection:
                    network = number >= ORGANISATIONS
                    one = await organisations.add(
                        connection,
                        name=f"Example {number}",
                        kind="network" if network else "civil-society-organisation",
                        network=network,
                    )
                    made = await credentials.add(connection, app.state.secret, organisation_id=one.id, label="test")
                token = await client.post(
                    "/oauth/token",
                    data={"grant_type": "client_credentials"},
                    auth=(made["client_id"], made["client_secret"]),
                )
                started.ids.append(one.id)
                started.headers.append({"Authorization": f"Bearer {token.json()['access_token']}"})
            return started

        started = runner.run(start())
        try:
            yield started
        finally:
            runner.run(stack.aclose())


def run(service: Service, examples: int, steps: int) -> None:
    machine = type("Machine", (Community,), {"service": service})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=examples < 50,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_history_shows_what_the_model_shows(service: Service) -> None:
    run(service, examples=12, steps=25)


@pytest.mark.slow
def test_many_long_histories_show_what_the_model_shows(service: Service) -> None:
    run(service, examples=150, steps=60)
