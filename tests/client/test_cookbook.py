"""The cookbook and the guides say what is true: their commands parse, their bodies are accepted, their links exist."""

import argparse
import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from app import cli_client
from app.db.migrate import ROOT
from tests.conftest import MakeOrganisation

GUIDES = ROOT / "docs" / "guides"
PAGES = [GUIDES / f"{name}.md" for name in ("cookbook", "exchange", "webhooks")]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_commands_of_minga_parse() -> None:
    parser = argparse.ArgumentParser()
    cli_client.register(parser.add_subparsers(required=True))
    found = [
        line
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if line.startswith("minga ")
    ]
    assert len(found) >= 4
    for line in found:
        assert parser.parse_args(shlex.split(line)[1:]).run


def test_python_compiles() -> None:
    found = [block for page in PAGES for block in blocks(page, "python")]
    assert len(found) >= 4
    for block in found:
        compile(block, "guide", "exec")


@pytest.mark.anyio
async def test_the_case_for_two_partners_is_accepted(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, first, second = [await make_organisation(f"Example CSO {letter}") for letter in "ABC"]
    (block,) = [block for block in blocks(GUIDES / "cookbook.md", "sh") if "<partner 1>" in block]
    given = block[block.index("'{") + 1 : block.index("}'") + 1]
    body = json.loads(given.replace("<partner 1>", str(first.id)).replace("<partner 2>", str(second.id)))
    answer = await client.post("/v1/cases", json=body, headers=owner.headers)
    assert answer.status_code == 201, answer.text
    for partner in (first, second):
        assert (await client.get(answer.json()["url"], headers=partner.headers)).status_code == 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
