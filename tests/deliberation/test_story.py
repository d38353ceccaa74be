"""A whole cycle as a story: consultations, findings, issues, endorsement, ranking, adoption, action, trends."""

from typing import Any

import httpx

from tests.conftest import MakeOrganisation
from tests.deliberation.community import gather
from tests.deliberation.vectors import VECTORS


async def test_from_consultations_to_an_adopted_list(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Nine organisations of five regions agree on what to work on, and one of them begins."""
    here = await gather(client, make_organisation, {"AFR": 3, "LAC": 2, "EUR": 2, "ASI": 1, "MENA": 1})
    everyone = [voter for voters in here.members.values() for voter in voters]
    convenor, lac = here.convenor, here.members["LAC"][0]

    # Two consultations are held; the first brings findings of two regions.
    first = await here.record(
        "events", convenor, "First consultation", event_type="consultation", period="2026-02", tlp="clear"
    )
    await here.record(
        "events", convenor, "Second consultation", event_type="consultation", period="2026-05-04", tlp="clear"
    )
    findings = {
        name: await here.record(
            "findings",
            here.members[region][0],
            f"Finding on {name}",
            finding_type="need",
            regions=[region],
            events=[first["id"]],
            tlp="clear",
        )
        for name, region in {"budgets": "AFR", "complaints": "LAC"}.items()
    }
    issues = {}
    for name, cited in {
        "budgets": [findings["budgets"]["id"], findings["complaints"]["id"]],
        "complaints": [findings["complaints"]["id"]],
        "borders": [],
        "drones": [findings["budgets"]["id"]],
    }.items():
        made = await here.record("issues", convenor, f"Issue {name}", findings=cited, tlp="clear")
        issues[name] = made["id"]

    # Anyone can follow an issue back to where it came from.
    trail = await here.get(f"/v1/issues/{issues['budgets']}/trail")
    assert (trail["raised_in"], trail["consultations"], trail["first_on"]) == (1, 2, "2026-02")
    assert trail["regions"] == ["AFR", "LAC"]
    assert trail["summary"] == "Raised in 1 of 2 consultations, by AFR and LAC, first in 2026-02."

    # Outside any round, organisations say where they stand; the public sees a total.
    for voter in everyone[:4]:
        await here.put(f"/v1/issues/{issues['budgets']}/endorsements/me", voter, {"position": "yes"})
    told = await here.get(f"/v1/issues/{issues['budgets']}/endorsements")
    assert (told["total"], told["regions"], told["items"]) == (4, 2, [])
    assert "by_region" not in told

    # The list is drafted, put to consultation, and a vote on endorsement is held.
    list_id = await here.issue_list(issues)
    moved = await here.post(f"/v1/issue-lists/{list_id}/stage", convenor, {"stage": "consultation"}, 200)
    assert moved["stage"] == "consultation"
    endorsement = await here.open_round(list_id, "endorsement")
    assert (await here.get(f"/v1/issue-lists/{list_id}"))["stage"] == "endorsement"
    for region, voters in here.members.items():
        for voter in voters:
            votes = {
                issues["budgets"]: "yes",
                issues["complaints"]: "yes" if region != "ASI" else "no",
                issues["borders"]: "yes" if region == "AFR" else "no",
                issues["drones"]: "no",
            }
            await here.put(f"/v1/rounds/{endorsement}/ballots/me", voter, {"votes": votes})
    await here.close(endorsement)
    result = await here.get(f"/v1/rounds/{endorsement}/result", lac)
    classes = {item["issue_id"]: item for item in result["classes"]}
    assert {name: classes[issue]["class"] for name, issue in issues.items()} == {
        "budgets": "common",
        "complaints": "common",
        "borders": "regional",
        "drones": "not-endorsed",
    }
    assert classes[issues["borders"]]["regions_for"] == ["AFR"]

    # Only what is common is ranked. One organisation changes its mind in time, another takes its ballot back.
    ranking = await here.open_round(list_id)
    opened = await here.get(f"/v1/rounds/{ranking}", lac)
    assert opened["issues"] == [issues["budgets"], issues["complaints"]]
    for voter in everyone:
        order = [[issues["complaints"]], [issues["budgets"]]]
        await here.put(f"/v1/rounds/{ranking}/ballots/me", voter, {"tiers": order})
    await here.put(f"/v1/rounds/{ranking}/ballots/me", lac, {"tiers": [[issues["budgets"]]]})
    gone = await client.delete(f"/v1/rounds/{ranking}/ballots/me", headers=everyone[0].headers)
    assert gone.status_code == 204
    assert (await client.get(f"/v1/rounds/{ranking}/result", headers=lac.headers)).json()["code"] == "round-open"
    closed = await here.close(ranking)
    assert closed["status"] == "closed"

    result = await here.get(f"/v1/rounds/{ranking}/result", lac)
    assert result["ballots"] == 8
    assert result["settings_source"] == "defaults"
    assert result["quorum"]["met"]
    assert [item["issue_id"] for item in result["ranks"]] == [issues["complaints"], issues["budgets"]]
    assert result["explanations"][0]["text"].startswith("“Issue complaints” stands above “Issue budgets” because")

    # The list cannot be adopted while it holds an issue that rests on nothing.
    version = (await here.get(f"/v1/issue-lists/{list_id}"))["version"]
    refused = await here.post(f"/v1/issue-lists/{list_id}/adopt", convenor, {}, 422, **{"If-Match": f'"{version}"'})
    assert refused["code"] == "issue-without-finding"
    await client.patch(
        f"/v1/issues/{issues['borders']}",
        json={"findings": [findings["budgets"]["id"]]},
        headers={**convenor.headers, "If-Match": '"1"'},
    )
    adopted = await here.post(f"/v1/issue-lists/{list_id}/adopt", convenor, {}, 200, **{"If-Match": f'"{version}"'})
    assert adopted["stage"] == "adopted"
    assert [item["issue"] for item in adopted["items"]] == [
        issues["complaints"],
        issues["budgets"],
        issues["borders"],
    ]

    # Adopted, it never changes again.
    headers = {**convenor.headers, "If-Match": f'"{adopted["version"]}"'}
    for answer in (
        await client.patch(f"/v1/issue-lists/{list_id}", json={"title": "Another"}, headers=headers),
        await client.delete(f"/v1/issue-lists/{list_id}", headers=headers),
        await client.post(f"/v1/issue-lists/{list_id}/stage", json={"stage": "lapsed"}, headers=convenor.headers),
    ):
        assert answer.status_code == 409, answer.text

    # Complaints is a gap until an action takes it up, with a partner that agrees for itself.
    gaps = await here.get("/v1/analysis/gaps", lac, regions=1)
    assert issues["complaints"] in [item["id"] for item in gaps["items"]]
    partner = here.members["AFR"][0]
    action = await here.record(
        "actions",
        lac,
        "Pilot on complaints",
        issues=[issues["complaints"]],
        issue_list=list_id,
        period={"start": "2027-01", "end": "2027-12"},
        pilot=True,
        partners=[str(partner.id)],
    )
    early = await here.post(f"/v1/actions/{action['id']}/stage", lac, {"stage": "agreed"}, 409)
    assert early["code"] == "partners-not-agreed"
    await here.put(f"/v1/actions/{action['id']}/partners/me", partner, None)
    for stage in ("agreed", "running"):
        assert (await here.post(f"/v1/actions/{action['id']}/stage", lac, {"stage": stage}, 200))["stage"] == stage
    gaps = await here.get("/v1/analysis/gaps", lac, regions=1)
    assert issues["complaints"] not in [item["id"] for item in gaps["items"]]
    trail = await here.get(f"/v1/issues/{issues['complaints']}/trail", lac)
    assert [one["stage"] for one in trail["issue_lists"]] == ["adopted"]
    assert [one["title"] for one in trail["actions"]] == ["Pilot on complaints"]


async def test_every_number_of_the_worked_example_through_the_api(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    sizes = {group["region"]: group["orgs"] for group in VECTORS["priority"]["ballots"]}
    here = await gather(client, make_organisation, sizes)
    issues = await here.issues()
    round_id = await here.open_round(await here.issue_list(issues))
    await here.vote_as_in_the_example(round_id, issues)
    await here.close(round_id)
    reader = here.members["MENA"][0]
    found = await here.get(f"/v1/rounds/{round_id}/result", reader, alpha="1", q="1")
    unweighted, balanced = VECTORS["priority"]["runs"]
    for shown, run in ((found, balanced), (found["simulation"], unweighted)):
        assert numbers(shown, issues) == {name: run[name] for name in ("weight_per_org", "rank", "borda", "d", "p")}
    assert found["agreement"] == {"AFR": "0", "LAC": "1", "EUR": "3/5", "ASI": "1/5", "MENA": "2/5"}
    assert found["simulation"]["agreement"] == {"AFR": "1", "LAC": "0", "EUR": "-2/5", "ASI": "-2/5", "MENA": "1/5"}
    assert [one["region"] for one in found["simulation"]["dissent"]] == ["ASI", "EUR"]
    tied = await here.get(f"/v1/rounds/{round_id}/result", reader, q="1")
    assert [item["place"] for item in tied["simulation"]["ranks"]] == [1, 2, 3, 3, 3]


def numbers(result: dict[str, Any], issues: dict[str, str]) -> dict[str, Any]:
    """A result in the names of the worked example."""
    name_of = {issue: name for name, issue in issues.items()}
    return {
        "weight_per_org": result["weights"],
        "rank": {name_of[item["issue_id"]]: item["rank"] for item in result["ranks"]},
        "borda": {name_of[item["issue_id"]]: item["borda"] for item in result["ranks"]},
        **{
            short: {name_of[a] + name_of[b]: value for a, row in result[long].items() for b, value in row.items()}
            for short, long in (("d", "pairwise"), ("p", "paths"))
        },
    }


async def test_every_number_of_the_trends_example_through_the_api(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    vectors = VECTORS["trends"]
    here = await gather(client, make_organisation, vectors["n"])
    for n, voters in enumerate(here.members.values()):
        for voter in voters:
            # Everyone contributes something, twice, to no issue of the example: an organisation counts once.
            for turn in range(2):
                await here.record(
                    "findings", voter, f"Note {n} {turn}", finding_type="observation", regions=["AFR"], tlp="clear"
                )
    issues = {}
    for name, expected in vectors["issues"].items():
        cited = []
        for region, raised in expected["k"].items():
            for voter in here.members[region][:raised]:
                for _ in range(2):
                    made = await here.record(
                        "findings", voter, f"On {name}", finding_type="need", regions=[region], tlp="clear"
                    )
                    cited.append(made["id"])
        issues[name] = (await here.record("issues", here.convenor, name, findings=cited, tlp="clear"))["id"]
    for reader in (None, here.members["LAC"][0]):
        found = await here.get("/v1/analysis/trends", reader, dimension="issue")
        assert found["n"] == {region: vectors["n"][region] for region in found["n"]}
        items = {item["id"]: item for item in found["items"]}
        for name, expected in vectors["issues"].items():
            assert {key: items[issues[name]][key] for key in expected} == expected
        likeness = (await here.get("/v1/analysis/similarity", reader))["similarity"]
        assert (likeness["LAC"]["MENA"], likeness["AFR"]["ASI"], likeness["LAC"]["EUR"]) == (0.7683, 0.4368, -0.5754)
    for form, start in (("csv", b"subject,title,region"), ("svg", b"<svg "), ("text", b"Concerns by region")):
        answer = await client.get("/v1/analysis/trends", params={"format": form})
        assert answer.status_code == 200
        assert answer.content.startswith(start)
    picture = await client.get("/v1/analysis/trends", headers={"Accept": "image/svg+xml"})
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert b"0.72" in picture.content
