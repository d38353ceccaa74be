"""A community for tests: fictional organisations of the five regions of the worked example, and what they do."""

from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import MakeOrganisation, Member
from tests.deliberation.vectors import ISSUES, VECTORS

COUNTRIES = {"AFR": "CD", "LAC": "AR", "EUR": "RS", "ASI": "MY", "MENA": "MA"}
Answer = dict[str, Any]


@dataclass
class Community:
    """Members by region, and one convenor who has no vote (a donor), so that only the ballots of the example count."""

    client: httpx.AsyncClient
    convenor: Member
    members: dict[str, list[Member]]

    async def post(self, path: str, who: Member, body: Any = None, status: int = 201, **headers: str) -> Answer:
        answer = await self.client.post(path, json={} if body is None else body, headers={**who.headers, **headers})
        assert answer.status_code == status, answer.text
        found: Answer = answer.json()
        return found

    async def put(self, path: str, who: Member, body: Any, status: int = 200) -> Answer:
        answer = await self.client.put(path, json=body, headers=who.headers)
        assert answer.status_code == status, answer.text
        found: Answer = answer.json()
        return found

    async def get(self, path: str, who: Member | None = None, status: int = 200, **parameters: Any) -> Answer:
        headers = {} if who is None else who.headers
        answer = await self.client.get(path, headers=headers, params=parameters)
        assert answer.status_code == status, answer.text
        found: Answer = answer.json()
        return found

    async def record(self, plural: str, who: Member, title: str, **fields: Any) -> Answer:
        """A published record."""
        body = {"title": title, "language": "en", "summary": f"About {title}.", "status": "published", **fields}
        return await self.post(f"/v1/{plural}", who, body)

    async def issues(self, names: list[str] = ISSUES, tlp: str = "clear") -> dict[str, str]:
        """Name → id of published issues of the convenor, each citing one finding of its own."""
        found = {}
        for name in names:
            finding = await self.record(
                "findings", self.convenor, f"Finding {name}", finding_type="need", regions=["AFR"], tlp=tlp
            )
            issue = await self.record("issues", self.convenor, f"Issue {name}", findings=[finding["id"]], tlp=tlp)
            found[name] = issue["id"]
        return found

    async def issue_list(self, issues: dict[str, str], tlp: str = "clear") -> str:
        """The id of a published list of these issues."""
        items = [{"issue": issue} for issue in issues.values()]
        found = await self.record("issue-lists", self.convenor, "Common issues", items=items, tlp=tlp)
        return str(found["id"])

    async def open_round(self, list_id: str, stage: str = "ranking", display: str = "open") -> str:
        body = {"stage": stage, "ballot_display": display}
        return str((await self.post(f"/v1/issue-lists/{list_id}/rounds", self.convenor, body))["id"])

    async def vote_as_in_the_example(self, round_id: str, issues: dict[str, str]) -> None:
        """Every member casts the ballot of its region in the worked example."""
        for group in VECTORS["priority"]["ballots"]:
            tiers = [[issues[name]] for name in group["ranking"].split(">")]
            for voter in self.members[group["region"]]:
                await self.put(f"/v1/rounds/{round_id}/ballots/me", voter, {"tiers": tiers})

    async def close(self, round_id: str) -> Answer:
        return await self.post(f"/v1/rounds/{round_id}/close", self.convenor, status=200)


async def gather(client: httpx.AsyncClient, make_organisation: MakeOrganisation, sizes: dict[str, int]) -> Community:
    """A community with so many members in each region."""
    members = {
        region: [
            await make_organisation(f"Example CSO {region} {n}", country=COUNTRIES[region]) for n in range(1, size + 1)
        ]
        for region, size in sizes.items()
    }
    convenor = await make_organisation("Example Fund", country="AU", kind="donor")
    return Community(client, convenor, members)


EXAMPLE_SIZES = {group["region"]: group["orgs"] for group in VECTORS["priority"]["ballots"]}
