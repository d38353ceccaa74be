"""What is committed beside the code: locks, guides, container files."""

import re
import tomllib

import pytest

from app.cli.__main__ import MODULES
from app.db.migrate import ROOT
from app.settings import Settings

LOCKS = ("requirements.lock", "requirements-dev.lock")
FLOORS = {"starlette": (1, 3, 1), "h11": (0, 16), "python-jose": (3, 5)}


def pins(lock: str) -> dict[str, str]:
    """Package → version of a lock, markers left out."""
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ \\;]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 40
    assert all("--hash=sha256:" in entry for entry in entries)


def test_tools_come_with_the_same_versions_as_the_service() -> None:
    service, tools = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: tools.get(name) for name in service} == service


def test_locks_cover_what_the_project_declares_and_known_floors() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {re.split(r"[\[<>=;]", line)[0].strip() for line in declared["project"]["dependencies"]}
    tools = {re.split(r"[\[<>=;]", line)[0].strip() for line in declared["dependency-groups"]["dev"]}
    assert names <= set(pins("requirements.lock"))
    assert names | tools <= set(pins("requirements-dev.lock"))
    for name, floor in FLOORS.items():
        assert tuple(int(part) for part in pins("requirements.lock")[name].split(".")) >= floor


def test_every_setting_is_in_the_operators_guide() -> None:
    guide = (ROOT / "docs" / "guides" / "operator.md").read_text()
    described = set(re.findall(r"^\| `(MINGA_[A-Z_]+)` \|", guide, re.MULTILINE))
    assert described == {f"MINGA_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("file", [".env.example", "compose.yaml", "Dockerfile"])
def test_files_name_only_settings_that_exist(file: str) -> None:
    named = set(re.findall(r"MINGA_[A-Z_]+", (ROOT / file).read_text()))
    assert named <= {f"MINGA_{name.upper()}" for name in Settings.model_fields}
    assert named


def test_container_is_not_root_and_watches_readiness() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d+$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text
    assert "/readyz" in text
    assert text.count("\nFROM ") + text.startswith("FROM") == 2


def test_gate_calls_check_and_ends_with_the_tests() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "./minga" in line and line[0] != "#"]
    assert lines == ["./minga check", './minga test "$@"']


def test_commands_of_the_documents_exist() -> None:
    for file in ("README.md", "CONTRIBUTING.md", "docs/guides/operator.md"):
        for command in re.findall(r"^\s*(?:\| `)?\./minga ([a-z]+)", (ROOT / file).read_text(), re.MULTILINE):
            assert command in MODULES, f"{file}: ./minga {command}"
