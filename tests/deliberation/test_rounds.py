"""Rounds over HTTP: who votes, what a ballot may say, secrecy, sealing, races, display."""

import asyncio
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI

from app.deliberation.sealing_ballots import fingerprint
from app.identity import organisations
from tests.conftest import MakeOrganisation
from tests.deliberation.community import Community

MISSING = "01980d9e-7a00-7000-8000-000000000001"


async def opened(here: Community, *, stage: str = "ranking", display: str = "open") -> tuple[dict[str, str], str]:
    """Five issues in a list, and a round on them."""
    issues = await here.issues()
    return issues, await here.open_round(await here.issue_list(issues), stage, display)


async def test_a_new_round_says_what_holds_for_it(community: Community) -> None:
    issues, round_id = await opened(community)
    found = await community.get(f"/v1/rounds/{round_id}", community.members["AFR"][0])
    assert (found["stage"], found["status"], found["ballot_display"]) == ("ranking", "open", "open")
    assert (found["charter"], found["settings_source"]) == (None, "defaults")
    assert (found["settings"]["alpha"], found["settings"]["q"]) == (0, 2)
    assert found["issues"] == list(issues.values())
    assert (found["closed_at"], found["ballots_sha256"]) == (None, None)
    listed = await community.get(f"/v1/issue-lists/{found['issue_list']}/rounds")
    assert [one["id"] for one in listed["items"]] == [round_id]


async def test_before_close_nobody_learns_anything_of_anothers_ballot(community: Community) -> None:
    issues, round_id = await opened(community)
    voter, other = community.members["AFR"]
    readers = (None, other, community.convenor)
    before = [await everything(community, round_id, who) for who in readers]
    await community.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issues["A"]]]})
    assert [await everything(community, round_id, who) for who in readers] == before
    assert (await community.get(f"/v1/rounds/{round_id}/ballots", other, 409))["code"] == "round-open"
    assert (await community.get(f"/v1/rounds/{round_id}/result", other, 409))["code"] == "round-open"
    assert (await community.get(f"/v1/rounds/{round_id}/ballots/me", voter))["tiers"] == [[issues["A"]]]


async def everything(here: Community, round_id: str, who: Any) -> list[Any]:
    """What one caller gets of a round on every surface, less what differs from request to request."""
    headers = {} if who is None else who.headers
    found = []
    for path in ("", "/result", "/ballots", "/ballots/me"):
        answer = await here.client.get(f"/v1/rounds/{round_id}{path}", headers=headers)
        body = answer.json()
        body.pop("request_id", None)
        found.append((answer.status_code, answer.headers.get("etag"), body))
    return found


async def test_a_ballot_can_be_changed_and_taken_back_until_close(community: Community) -> None:
    issues, round_id = await opened(community)
    voter = community.members["AFR"][0]
    path = f"/v1/rounds/{round_id}/ballots/me"
    first = await community.put(path, voter, {"tiers": [[issues["A"]]]})
    second = await community.put(path, voter, {"tiers": [[issues["B"]], [issues["A"], issues["C"]]]})
    assert second["created_at"] == first["created_at"]
    assert (await community.client.delete(path, headers=voter.headers)).status_code == 204
    assert (await community.client.delete(path, headers=voter.headers)).status_code == 404
    await community.put(path, voter, {"tiers": [[issues["C"]]]})
    await community.close(round_id)
    result = await community.get(f"/v1/rounds/{round_id}/result", voter)
    assert result["ballots"] == 1
    assert result["ranks"][0]["issue_id"] == issues["C"]
    assert (await community.put(path, voter, {"tiers": [[issues["A"]]]}, 409))["code"] == "round-closed"
    assert (await community.client.delete(path, headers=voter.headers)).json()["code"] == "round-closed"


async def test_a_ballot_taken_back_leaves_the_result_as_without_it(example: Community) -> None:
    issues = await example.issues()
    shown = []
    for turn in range(2):
        round_id = await example.open_round(await example.issue_list(issues))
        await example.vote_as_in_the_example(round_id, issues)
        voter = example.members["EUR"][0]
        path = f"/v1/rounds/{round_id}/ballots/me"
        if turn:
            await example.put(path, voter, {"tiers": [[issues["E"]]]})
        assert (await example.client.delete(path, headers=voter.headers)).status_code == 204
        await example.close(round_id)
        result = await example.get(f"/v1/rounds/{round_id}/result", voter)
        shown.append({name: result[name] for name in ("ranks", "weights", "pairwise", "paths", "agreement")})
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"tiers": [["A"], ["A"]]}, "/tiers/1/0", "duplicate"),
        ({"tiers": [["A", MISSING]]}, "/tiers/0/1", "issue-not-in-round"),
        ({"tiers": []}, "/tiers", "too-short"),
        ({"tiers": [[]]}, "/tiers/0", "too-short"),
        ({"votes": {}}, "/tiers", "required"),
        ({}, "/tiers", "required"),
        ({"tiers": [["A"]], "region": "AFR"}, "", "unknown-field"),
    ],
)
async def test_a_ballot_that_says_something_else_is_refused(
    community: Community, body: dict[str, Any], pointer: str, code: str
) -> None:
    issues, round_id = await opened(community)
    if "tiers" in body:
        body = {**body, "tiers": [[issues.get(name, name) for name in tier] for tier in body["tiers"]]}
    refused = await community.put(f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0], body, 422)
    assert (refused["code"], refused["errors"][0]["pointer"], refused["errors"][0]["code"]) == (
        "invalid-body", pointer, code,
    )  # fmt: skip


async def test_an_endorsement_ballot_names_listed_issues_only(community: Community) -> None:
    issues, round_id = await opened(community, stage="endorsement")
    path, voter = f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0]
    for body in ({"votes": {MISSING: "yes"}}, {"votes": {issues["A"]: "maybe"}}, {"tiers": [[issues["A"]]]}):
        assert (await community.put(path, voter, body, 422))["code"] == "invalid-body"
    kept = await community.put(path, voter, {"votes": {issues["A"]: "abstain"}})
    assert kept["votes"] == {issues["A"]: "abstain"}


@pytest.mark.parametrize("kind", ["donor", "intergovernmental"])
async def test_donors_and_intergovernmental_bodies_never_vote(
    community: Community, make_organisation: MakeOrganisation, kind: str
) -> None:
    issues, round_id = await opened(community)
    funder = await make_organisation("Example Fund B", kind=kind)
    refused = await community.put(f"/v1/rounds/{round_id}/ballots/me", funder, {"tiers": [[issues["A"]]]}, 403)
    assert refused["code"] == "not-permitted"


async def test_only_the_convenor_opens_and_closes(community: Community) -> None:
    issues = await community.issues()
    list_id = await community.issue_list(issues)
    stranger = community.members["LAC"][0]
    body = {"stage": "ranking", "ballot_display": "open"}
    assert (await community.post(f"/v1/issue-lists/{list_id}/rounds", stranger, body, 403))["code"] == "not-owner"
    round_id = await community.open_round(list_id)
    again = await community.post(f"/v1/issue-lists/{list_id}/rounds", community.convenor, body, 409)
    assert again["code"] == "round-open"
    assert (await community.post(f"/v1/rounds/{round_id}/close", stranger, status=403))["code"] == "not-owner"
    await community.close(round_id)
    closed = await community.post(f"/v1/rounds/{round_id}/close", community.convenor, status=409)
    assert closed["code"] == "round-closed"


async def test_two_who_close_at_once_have_one_winner(community: Community) -> None:
    issues, round_id = await opened(community)
    await community.put(f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0], {"tiers": [[issues["A"]]]})
    answers = await asyncio.gather(
        *(community.client.post(f"/v1/rounds/{round_id}/close", headers=community.convenor.headers) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]


async def test_votes_at_the_last_moment_are_counted_or_refused(example: Community) -> None:
    """Whoever got 200 is counted once; whoever got 409 is not; nothing is lost between."""
    issues = await example.issues()
    voters = [voter for group in example.members.values() for voter in group]
    for delay in (0.0, 0.01, 0.03):
        round_id = await example.open_round(await example.issue_list(issues))

        async def close(of: str = round_id, after: float = delay) -> int:
            await asyncio.sleep(after)
            answer = await example.client.post(f"/v1/rounds/{of}/close", headers=example.convenor.headers)
            return answer.status_code

        async def vote(n: int, of: str = round_id) -> int:
            answer = await example.client.put(
                f"/v1/rounds/{of}/ballots/me",
                json={"tiers": [[issues["ABCDE"[n % 5]]]]},
                headers=voters[n].headers,
            )
            return answer.status_code

        closed, again, *answers = await asyncio.gather(close(), close(), *(vote(n) for n in range(len(voters))))
        assert sorted((closed, again)) == [200, 409]
        assert set(answers) <= {200, 409}
        ballots = await example.get(f"/v1/rounds/{round_id}/ballots", voters[0])
        counted = {item["organisation"]["id"]: item["tiers"] for item in ballots["items"]}
        assert counted == {
            str(voters[n].id): [[issues["ABCDE"[n % 5]]]] for n, status in enumerate(answers) if status == 200
        }
        assert (await example.get(f"/v1/rounds/{round_id}/result"))["ballots"] == answers.count(200)


async def test_anyone_with_the_ballots_can_check_the_seal(community: Community) -> None:
    issues, round_id = await opened(community)
    for voters in community.members.values():
        for voter in voters:
            await community.put(
                f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issues["B"], issues["A"]], [issues["C"]]]}
            )
    closed = await community.close(round_id)
    ballots = await community.get(f"/v1/rounds/{round_id}/ballots", community.members["MENA"][0])
    assert fingerprint(round_id, ballots["salt"], [
        {"region": item["region"], "tiers": item["tiers"]} for item in reversed(ballots["items"])
    ]) == closed["ballots_sha256"]  # fmt: skip
    names = {item["organisation"]["name"] for item in ballots["items"]}
    assert "Example CSO MENA 1" in names
    assert (await community.client.get(f"/v1/rounds/{round_id}/ballots")).status_code == 401


async def test_an_unlisted_voter_stays_without_a_name(
    community: Community, make_organisation: MakeOrganisation
) -> None:
    issues, round_id = await opened(community)
    quiet = await make_organisation("Example CSO quiet", listing="unlisted")
    for voter in (quiet, community.members["AFR"][0]):
        await community.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issues["A"]]]})
    await community.close(round_id)
    reader = community.members["LAC"][0]
    shown = await community.client.get(f"/v1/rounds/{round_id}/ballots", headers=reader.headers)
    items = shown.json()["items"]
    assert [item["organisation"] is None for item in items].count(True) == 1
    assert items[0]["organisation"] is None, "a place among the others would tell when it was admitted"
    assert str(quiet.id) not in shown.text
    assert "quiet" not in shown.text
    own = await community.get(f"/v1/rounds/{round_id}/ballots", quiet)
    assert all(item["organisation"] for item in own["items"])


async def test_the_public_gets_ranks_without_what_they_rest_on(community: Community) -> None:
    issues, round_id = await opened(community)
    await community.put(f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0], {"tiers": [[issues["A"]]]})
    await community.close(round_id)
    found = await community.get(f"/v1/rounds/{round_id}/result")
    assert found["display"] == "reduced"
    assert {item["borda"] for item in found["ranks"]} == {None}
    assert found["quorum"] == {"met": False, "regions_needed": 3, "voters_needed_per_region": 2}
    assert not found.keys() & {"weights", "pairwise", "paths", "agreement", "explanations", "ballots_by_region"}
    assert (await community.get(f"/v1/rounds/{round_id}/result", None, 403, alpha=1))["code"] == "display-withheld"


async def test_an_anonymous_round_with_a_small_region_gives_ranks_only(community: Community) -> None:
    issues, round_id = await opened(community, display="anonymous")
    for voters in community.members.values():
        for voter in voters:
            await community.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issues["A"]]]})
    await community.close(round_id)
    for reader in (None, community.convenor, community.members["MENA"][0]):
        found = await community.get(f"/v1/rounds/{round_id}/result", reader)
        assert found["display"] == "reduced"
        assert found["ballots"] == 7
        for what_if in ({"alpha": "1"}, {"q": 1}, {"alpha": "0.5", "q": 3}):
            refused = await community.get(f"/v1/rounds/{round_id}/result", reader, 403, **what_if)
            assert refused["code"] == "display-withheld"
    refused = await community.get(f"/v1/rounds/{round_id}/ballots", community.convenor, 403)
    assert refused["code"] == "display-withheld"


async def test_an_anonymous_round_with_enough_ballots_never_names(
    client: Any, make_organisation: MakeOrganisation
) -> None:
    from tests.deliberation.community import gather

    here = await gather(client, make_organisation, {"AFR": 3, "LAC": 3, "EUR": 3})
    issues, round_id = await opened(here, display="anonymous")
    for voters in here.members.values():
        for n, voter in enumerate(voters):
            await here.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issues["ABC"[n]]]]})
    closed = await here.close(round_id)
    reader = here.members["LAC"][0]
    ballots = await here.client.get(f"/v1/rounds/{round_id}/ballots", headers=reader.headers)
    assert len(ballots.json()["items"]) == 9
    for voters in here.members.values():
        for voter in voters:
            assert voter.name not in ballots.text
            assert str(voter.id) not in ballots.text
    found = ballots.json()
    assert fingerprint(round_id, found["salt"], found["items"]) == closed["ballots_sha256"]
    result = await here.get(f"/v1/rounds/{round_id}/result", reader, alpha="1")
    assert result["display"] == "full"
    assert result["simulation"]["weights"]["AFR"] == "1/9"


async def test_region_and_standing_at_close_count(app: FastAPI, community: Community) -> None:
    issues, round_id = await opened(community)
    for voter in (*community.members["AFR"], *community.members["LAC"]):
        await community.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issues["A"]]]})
    async with app.state.database.transaction() as connection:
        await organisations.suspend(connection, community.members["AFR"][0].id)
        await connection.execute(
            "UPDATE organisation SET region = 'EUR' WHERE id = %s", [community.members["LAC"][0].id]
        )
    await community.close(round_id)
    result = await community.get(f"/v1/rounds/{round_id}/result", community.members["EUR"][0])
    assert result["ballots_by_region"] == {"AFR": 1, "EUR": 1, "LAC": 1}


async def test_sealed_ballots_and_results_cannot_be_changed_in_the_database(
    database_url: str, community: Community
) -> None:
    issues, round_id = await opened(community)
    voter = community.members["AFR"][0]
    await community.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": [[issues["A"]]]})
    await community.close(round_id)
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement, state in (
            ("UPDATE ballot SET content = '{}'", "MG003"),
            ("DELETE FROM ballot", "MG003"),
            ("UPDATE round_result SET salt = ''", "MG002"),
            ("DELETE FROM round_result", "MG002"),
            ("TRUNCATE round_result", "MG002"),
        ):
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(statement)
            assert refused.value.sqlstate == state


async def test_an_issue_narrowed_later_leaves_the_result(community: Community) -> None:
    issues, round_id = await opened(community)
    await community.put(f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0], {"tiers": [[issues["A"]]]})
    await community.close(round_id)
    answer = await community.client.patch(
        f"/v1/issues/{issues['A']}", json={"tlp": "amber"}, headers={**community.convenor.headers, "If-Match": '"1"'}
    )
    assert answer.status_code == 200, answer.text
    for reader in (None, community.members["AFR"][1]):
        for path in ("", "/result", "/ballots"):
            headers = {} if reader is None else reader.headers
            shown = await community.client.get(f"/v1/rounds/{round_id}{path}", headers=headers)
            assert issues["A"] not in shown.text
            assert "Issue A" not in shown.text
    own = await community.get(f"/v1/rounds/{round_id}/ballots/me", community.members["AFR"][0])
    assert own["tiers"] == []
    owner = await community.get(f"/v1/rounds/{round_id}/result", community.convenor)
    assert owner["ranks"][0]["issue_id"] == issues["A"]
