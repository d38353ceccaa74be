"""`./minga`, the bootstrap: makes the environment once, again when it is stale or half made, and one at a time."""

import shutil
import subprocess
from pathlib import Path

import pytest

from app.db.migrate import ROOT
from tests.cli.service import environment

PROGRAM = "import os, sys; print(sys.prefix, os.getcwd(), *sys.argv[1:])\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that needs no package and says where it runs."""
    root = tmp_path / "a checkout"
    (root / "app" / "cli").mkdir(parents=True)
    for file in (root / "app" / "__init__.py", root / "app" / "cli" / "__init__.py"):
        file.touch()
    (root / "app" / "cli" / "__main__.py").write_text(PROGRAM)
    (root / "requirements.lock").write_text("# nothing\n")
    (root / "requirements-dev.lock").write_text("# nothing, and tools\n")
    shutil.copy(ROOT / "minga", root / "minga")
    return root


def start(checkout: Path, *words: str) -> "subprocess.Popen[str]":
    settings = {**environment(), "PIP_NO_INDEX": "1"}
    settings.pop("PYTHONPATH")
    return subprocess.Popen(
        [checkout / "minga", *words],
        cwd="/",
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(checkout: Path, *words: str) -> tuple[str, str]:
    with start(checkout, *words) as process:
        out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return out, said


def test_environment_is_made_once_and_again_when_stale_or_half_made(checkout: Path) -> None:
    out, said = run(checkout, "serve", "--port", "1")
    assert out.split("\n")[0] == f"{checkout}/.venv / serve --port 1"
    assert "Setting up .venv" in said
    assert run(checkout, "serve")[1] == ""

    # The tools come with the first command that needs them, and serve the service as well.
    assert "requirements-dev.lock" in run(checkout, "test")[1]
    assert run(checkout, "serve")[1] == ""
    assert run(checkout, "check")[1] == ""

    (checkout / "requirements.lock").write_text("# nothing, but otherwise\n")
    (checkout / "requirements-dev.lock").write_text("# nothing, but otherwise, and tools\n")
    assert "requirements.lock" in run(checkout, "serve")[1]
    assert run(checkout, "serve")[1] == ""

    half = checkout / ".venv" / "half-installed"
    half.touch()
    (checkout / ".venv" / ".minga-lock").unlink()
    assert "Setting up .venv" in run(checkout, "serve")[1]
    assert not half.exists()


def test_concurrent_first_starts_make_it_once(checkout: Path) -> None:
    started = [start(checkout, "serve") for _ in range(3)]
    said = []
    for process in started:
        with process:
            said.append(process.communicate(timeout=120)[1])
            assert process.returncode == 0, said
    assert sum("Setting up" in text for text in said) == 1


def test_failed_installation_is_told_and_tried_again(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text(f"no-such-package-of-ours==1 --hash=sha256:{'0' * 64}\n")
    with start(checkout, "serve") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "could not be installed" in said
    (checkout / "requirements.lock").write_text("# nothing\n")
    run(checkout, "serve")


def test_place_that_cannot_be_written_is_named(checkout: Path) -> None:
    (checkout / ".venv.lock").mkdir()
    with start(checkout, "serve") as process:
        out, said = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert str(checkout / ".venv.lock") in said
    assert "Traceback" not in said
