"""The cookbook's commands do what it says: each language's snippets, word for word, against a running service.

What a machine lacks (curl and jq, node, TypeScript, R with httr2, pandas) is left out with a reason; nothing is
installed.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db.migrate import ROOT
from app.kinds.cases import CASES
from app.kinds.events import EVENTS
from app.kinds.findings import FINDINGS
from tests.cli.service import environment, minga, serving
from tests.records.bodies import publishable

COOKBOOK = ROOT / "docs" / "guides" / "cookbook.md"
SECONDS = 120


@dataclass(frozen=True)
class Member:
    """An organisation with the variables its commands are started with."""

    id: str
    client_id: str
    client_secret: str
    url: str

    def get(self, path: str) -> Any:
        answer = httpx.get(self.url + path, headers=self.headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def headers(self) -> dict[str, str]:
        given = {"grant_type": "client_credentials"}
        answer = httpx.post(self.url + "/oauth/token", data=given, auth=(self.client_id, self.client_secret))
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@dataclass(frozen=True)
class Place:
    """A service with members; the first wrote a public case of Latin America, in Spanish."""

    url: str
    folder: Path

    def member(self, name: str) -> Member:
        words = ("--name", name, "--kind", "cso", "--country", "CD")
        organisation = told("admin", "organisation", "add", *words, cwd=self.folder)
        words = ("--organisation", organisation["id"], "--label", "cookbook")
        credential = told("admin", "credential", "add", *words, cwd=self.folder)
        return Member(organisation["id"], credential["client_id"], credential["client_secret"], self.url)


def told(*words: str, cwd: Path) -> Any:
    done = minga(*words, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("cookbook")
    with serving(folder, "--port", "0", MINGA_RATE_LIMIT="off") as service:
        found = Place(service.url, folder)
        case = publishable(CASES, tlp="clear", countries=["CO"], language="es", title="=1+1;=2")
        owner = found.member("Example CSO A")
        answer = httpx.post(service.url + "/v1/cases", json=case, headers=owner.headers, timeout=30)
        assert answer.status_code == 201, answer.text
        yield found


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", COOKBOOK.read_text(), re.DOTALL)
    assert found
    return found


def run(program: str, arguments: list[str], member: Member, folder: Path, **more: str) -> str:
    """What the program wrote on standard output; it must end well."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    given = {"MINGA_URL": member.url, "MINGA_CLIENT_ID": member.client_id, "MINGA_CLIENT_SECRET": member.client_secret}
    done = subprocess.run(
        [found, *arguments],
        cwd=folder,
        env={**environment(), **given, "HOME": str(folder), **more},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def findings() -> list[dict[str, Any]]:
    return [publishable(FINDINGS, title=f"Finding {number}", external_id=f"f-{number}") for number in range(12)]


def test_shell(place: Place, tmp_path: Path) -> None:
    missing = [name for name in ("bash", "curl", "jq") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not installed")
    me, *partners = [place.member(f"Example CSO {letter}") for letter in "BCD"]
    (tmp_path / "event.json").write_text(json.dumps(publishable(EVENTS, title="Workshop")))
    (tmp_path / "findings.ndjson").write_text("".join(json.dumps(one) + "\n" for one in findings()))
    first, *others = blocks("sh")
    lines = [line for line in first.splitlines() if not line.startswith("export")]
    *others, types = others
    assert "npx" in types  # needs the network: see the page
    # The second time the service says that nothing is new.
    whole = "\n".join(lines + others + [block for block in others if "--etag-compare" in block])
    for number, partner in enumerate(partners, 1):
        whole = whole.replace(f"<partner {number}>", partner.id)
    program = tmp_path / "cookbook.sh"
    program.write_text(f'set -euo pipefail\nminga() {{ "{sys.executable}" -m app.cli "$@"; }}\n{whole}')
    out = run("bash", [str(program)], me, tmp_path)

    assert re.findall("^(200|304)$", out, re.MULTILINE) == ["200", "304"]
    assert json.loads((tmp_path / "page.json").read_text())["items"]
    assert (tmp_path / "next").read_text().startswith(place.url)
    assert len(me.get(f"/v1/events?organisation={me.id}")["items"]) == 1
    assert len(me.get(f"/v1/findings?organisation={me.id}&limit=50")["items"]) == 12
    (case,) = me.get("/v1/cases?tlp=amber%2Bstrict")["items"]
    assert [partner.get(f"/v1/cases/{case['id']}")["title"] for partner in partners] == [case["title"]] * 2
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert (row["title"], row["regions"]) == ("'=1+1;'=2", "LAC")
    assert [*(tmp_path / "copy").glob("*.ndjson")]


def python(place: Place, folder: Path, found: list[str]) -> Member:
    me, *partners = [place.member(f"Example CSO {letter}") for letter in "EFG"]
    (folder / "findings.ndjson").write_text("".join(json.dumps(one) + "\n" for one in findings()))
    given = {
        "url": me.url,
        "client_id": me.client_id,
        "client_secret": me.client_secret,
        "partner_1": partners[0].id,
        "event": publishable(EVENTS),
        "case": publishable(CASES, tlp="amber+strict", audience=[partner.id for partner in partners]),
    }
    names = "".join(f"{name} = {value!r}\n" for name, value in given.items())
    (folder / "cookbook.py").write_text(names + "\n".join(found))
    run(sys.executable, ["cookbook.py"], me, folder)
    return me


def test_python(place: Place, tmp_path: Path) -> None:
    me = python(place, tmp_path, [block for block in blocks("python") if "pandas" not in block])
    assert (tmp_path / "copy" / "case.ndjson").exists()
    assert len(me.get(f"/v1/events?organisation={me.id}")["items"]) == 1
    assert len(me.get(f"/v1/findings?organisation={me.id}&limit=50")["items"]) == 12
    (case,) = me.get(f"/v1/cases?organisation={me.id}")["items"]
    assert (case["tlp"], case["version"]) == ("amber+strict", 2)


def test_pandas(place: Place, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    (tmp_path / "cases.csv").write_bytes(httpx.get(place.url + "/v1/exports/cases.csv?bom=true").content)
    (block,) = [block for block in blocks("python") if "pandas" in block]
    python(place, tmp_path, [block, "assert by_outcome.sum() == len(cases) > 0"])


KEPT = """
const kept = new Map();
globalThis.localStorage = { getItem: name => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) };
"""


def test_javascript(place: Place, tmp_path: Path) -> None:
    issues, places, export = blocks("js")
    # The page is opened twice: the second time the service says that nothing is new.
    program = f"""{KEPT}
const url = process.env.MINGA_URL;
const seen = [];
for (const visit of [1, 2]) {{
{issues}
seen.push([answer.status, Array.isArray(page.items)]);
}}
{places}
{export}
console.log(JSON.stringify({{ seen, places: [...places], feed: head.feed, titles: cases.map(one => one.title) }}));
"""
    (tmp_path / "cookbook.mjs").write_text(program)
    said = json.loads(run("node", ["cookbook.mjs"], place.member("Example CSO H"), tmp_path))
    assert said["seen"] == [[200, True], [304, True]]
    assert said["places"] == [["CO", 1]]
    assert said["feed"].startswith(f"{place.url}/v1/changes?")
    assert said["titles"] == ["=1+1;=2"]


def test_typescript(place: Place, tmp_path: Path) -> None:
    modules = Path(os.environ.get("TEST_NODE_MODULES", "missing"))
    if not {"openapi-typescript", "typescript"} <= {path.name for path in modules.glob("*")}:
        pytest.skip("set TEST_NODE_MODULES to a node_modules folder with openapi-typescript and typescript")
    me = place.member("Example CSO J")
    (command,) = [block.split() for block in blocks("sh") if "npx" in block]
    words = [word.strip('"').replace("$MINGA_URL", me.url) for word in command[2:]]
    run(str(modules / ".bin" / command[1]), words, me, tmp_path)
    (program,) = blocks("ts")
    (tmp_path / "cookbook.ts").write_text(f"declare const url: string;\n{program}console.log(titles);\n")
    options = ["--noEmit", "--strict", "--module", "esnext", "--moduleResolution", "bundler"]
    options += ["--target", "es2022", "--lib", "es2022,dom"]
    run(str(modules / ".bin" / "tsc"), [*options, "cookbook.ts"], me, tmp_path)


def test_r(place: Place, tmp_path: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    if subprocess.run(["Rscript", "-e", "library(httr2); library(jsonlite)"], capture_output=True).returncode:
        pytest.skip("R is here, but not its packages httr2 and jsonlite")
    me = place.member("Example CSO I")
    (tmp_path / "findings.json").write_text(json.dumps(findings()))
    (tmp_path / "cases.csv").write_bytes(httpx.get(place.url + "/v1/exports/cases.csv?bom=true").content)
    names = """
url <- Sys.getenv("MINGA_URL"); client_id <- Sys.getenv("MINGA_CLIENT_ID")
client_secret <- Sys.getenv("MINGA_CLIENT_SECRET")
findings <- jsonlite::fromJSON("findings.json", simplifyVector = FALSE)
"""
    shown = "list(page = length(page$items), report = report$counts, id = cases$id)"
    ends = f"cat(jsonlite::toJSON({shown}, auto_unbox = TRUE))"
    (tmp_path / "cookbook.R").write_text(names + "\n".join([*blocks("r"), ends]))
    said = json.loads(run("Rscript", ["--vanilla", "cookbook.R"], me, tmp_path).splitlines()[-1])
    assert said["page"] == 1
    assert said["report"] == {"created": 12, "updated": 0, "unchanged": 0, "failed": 0}
    assert len(me.get(f"/v1/findings?organisation={me.id}&limit=50")["items"]) == 12
    assert re.fullmatch("[0-9a-f-]{36}", said["id"])
