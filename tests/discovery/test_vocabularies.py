"""Vocabularies on the wire: complete, cacheable, strict about parameters, topics as SKOS too."""

import httpx

from tests.conftest import PUBLIC_URL, MakeOrganisation

LD_JSON = {"Accept": "application/ld+json"}
ADDRESSES = (
    "/v1/countries",
    "/v1/countries/CD",
    "/v1/regions",
    "/v1/vocabularies",
    "/v1/vocabularies/topics",
    "/v1/vocabularies/topics/police",
)


async def test_countries_are_250_each_once(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/countries")
    assert answer.status_code == 200
    codes = [country["code"] for country in answer.json()["items"]]
    assert len(codes) == len(set(codes)) == 250
    assert codes == sorted(codes)
    assert answer.json()["next"] is None


async def test_regions_hold_every_country_once(client: httpx.AsyncClient) -> None:
    regions = (await client.get("/v1/regions")).json()["items"]
    codes = [code for region in regions for code in region["countries"]]
    assert [region["code"] for region in regions] == ["AFR", "ASI", "EUR", "LAC", "MENA", "OTH"]
    assert len(codes) == len(set(codes)) == 250


async def test_countries_filter_by_region_and_name(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/countries", params={"region": ["AFR", "MENA"], "q": "REPUBLICA DEMOCRATICA"})
    assert [country["code"] for country in answer.json()["items"]] == ["CD"]
    answer = await client.get("/v1/countries", params={"region": "MENA"})
    assert len(answer.json()["items"]) == 20


async def test_one_country(client: httpx.AsyncClient) -> None:
    country = (await client.get("/v1/countries/CD")).json()
    assert country["iso3"] == "COD"
    assert country["region"] == "AFR"
    assert country["url"] == f"{PUBLIC_URL}/v1/countries/CD"
    assert set(country["names"]) == {"en", "fr", "es", "pt", "ar", "sr-Latn"}


async def test_topics_filter_by_type_branch_and_word(client: httpx.AsyncClient) -> None:
    async def ids(**parameters: str) -> list[str]:
        answer = await client.get("/v1/vocabularies/topics", params=parameters)
        assert answer.status_code == 200
        return [topic["id"] for topic in answer.json()["items"]]

    assert len(await ids()) == 98
    assert await ids(below="justice-sector") == ["military-justice", "customary-justice"]
    assert len(await ids(type="cso-function")) == 7
    assert "police" in await ids(q="Law Enforcement")
    assert await ids(q="no such word anywhere") == []


async def test_topics_as_skos(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/vocabularies/topics", headers=LD_JSON)
    assert answer.headers["content-type"].startswith("application/ld+json")
    scheme, *concepts = answer.json()["@graph"]
    by_id = {concept["id"]: concept for concept in concepts}
    assert scheme["type"] == "skos:ConceptScheme"
    assert len(scheme["hasTopConcept"]) == 6
    assert len(by_id) == 98
    for concept in concepts:
        broader = concept.get("broader")
        assert (broader is None) == (concept["id"] in scheme["hasTopConcept"])
        assert broader is None or concept["id"] in by_id[broader]["narrower"]
        assert all(concept["id"] in by_id[other]["related"] for other in concept["related"])


async def test_one_topic_as_skos_stands_alone(client: httpx.AsyncClient) -> None:
    concept = (await client.get("/v1/vocabularies/topics/police", headers=LD_JSON)).json()
    assert concept["@context"]["skos"] == "http://www.w3.org/2004/02/skos/core#"
    assert concept["id"] == f"{PUBLIC_URL}/v1/vocabularies/topics/police"
    assert concept["broader"] == f"{PUBLIC_URL}/v1/vocabularies/topics/institutions"


ACCEPTED = {
    "*/*": False,
    "application/json": False,
    "application/ld+json": True,
    "application/ld+json, application/json;q=0.5": True,
    "application/json, application/ld+json;q=0.5": False,
    "application/ld+json;q=0": False,
    "application/ld+json;q=high": False,
    "text/html": False,
}


async def test_accept_chooses_the_form(client: httpx.AsyncClient) -> None:
    linked = {}
    for accept in ACCEPTED:
        answer = await client.get("/v1/vocabularies/topics/police", headers={"Accept": accept})
        linked[accept] = answer.headers["content-type"].startswith("application/ld+json")
    assert linked == ACCEPTED


async def test_everybody_may_keep_the_answer_and_ask_whether_it_still_holds(client: httpx.AsyncClient) -> None:
    for address in ADDRESSES:
        answer = await client.get(address)
        assert answer.headers["cache-control"] == "public, max-age=3600", address
        assert "accept" in answer.headers["vary"].lower(), address
        again = await client.get(address, headers={"If-None-Match": f'"other", W/{answer.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b""), address
        assert again.headers["etag"] == answer.headers["etag"], address


async def test_unknown_parameters_and_values_are_refused(client: httpx.AsyncClient) -> None:
    unknown_values = ("/v1/countries?region=XX", "/v1/vocabularies/topics?below=x", "/v1/vocabularies/topics?type=x")
    for address in (*(f"{address}?surprise=1" for address in ADDRESSES), *unknown_values):
        answer = await client.get(address)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-parameter"), address


async def test_what_does_not_exist_is_not_found(client: httpx.AsyncClient) -> None:
    for address in ("/v1/countries/ZZ", "/v1/countries/cd", "/v1/vocabularies/topics/unheard-of"):
        answer = await client.get(address)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), address


async def test_a_bad_token_is_never_taken_for_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/countries", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401


async def test_a_member_reads_the_same_bytes(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    member = await make_organisation("Example CSO A")
    anonymous = await client.get("/v1/regions")
    assert (await client.get("/v1/regions", headers=member.headers)).content == anonymous.content
