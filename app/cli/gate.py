"""`minga check`, `test`, `openapi` and `bench`: what stands between a change and a release."""

import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path
from typing import Any

import orjson

from app.cli.outcome import DONE, FAILED, CommandFailed, say
from app.db import schema
from app.db.embedded import EmbeddedPostgres
from app.db.migrate import ROOT
from app.http import problem_table
from app.http.openapi import build_document
from app.main import create_app
from app.sealing import MasterSecret
from app.settings import Settings

CONTRACT = ROOT / "openapi" / "v1.json"
PROBLEMS = ROOT / "docs" / "problems.md"
DIFFERENCES_SHOWN = 40


def contract() -> bytes:
    """The OpenAPI document of the application, as it is committed."""
    application = create_app(
        Settings(_env_file=None),
        database_url="postgresql:///unused",
        secret=MasterSecret(bytes(range(64))),
        public_url="http://127.0.0.1:8000",
    )
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(build_document(application), option=options)


def contract_differences() -> list[str]:
    """The first lines by which the committed documents differ from the application's; empty is right."""
    differences: list[str] = []
    for file, made in ((CONTRACT, contract().decode()), (PROBLEMS, problem_table.table())):
        committed = file.read_text() if file.exists() else ""
        differences += unified_diff(committed.splitlines(), made.splitlines(), file.name, "application", n=0)
    return differences[:DIFFERENCES_SHOWN]


def schema_differences() -> list[str]:
    """What differs between the declared tables and a freshly migrated database; empty is right."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "check"
        with EmbeddedPostgres(home, settings={"fsync": "off"}, disposable=True) as server:
            schema.upgrade(server.url)
            return [repr(difference) for difference in schema.drift(server.url)]


def check(_: Namespace, __: list[str]) -> int:
    """0 when every check of the gate passes; all of them run, so that one run tells everything."""
    imports = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    steps: list[tuple[str, Callable[[], bool]]] = [
        ("format", lambda: _tool("-m", "ruff", "format", "--check", ".")),
        ("lint", lambda: _tool("-m", "ruff", "check", ".")),
        ("types", lambda: _tool("-m", "mypy")),
        ("imports", lambda: _tool("-c", imports)),
        ("migrations", lambda: _none(schema_differences())),
        ("contract", lambda: _none(contract_differences())),
    ]
    failed = []
    for name, step in steps:
        passed = step()
        say(f"{name}: {'passed' if passed else 'FAILED'}")
        if not passed:
            failed.append(name)
    say(f"check failed: {', '.join(failed)}" if failed else "check passed")
    return FAILED if failed else DONE


def test(arguments: Namespace, rest: list[str]) -> int:
    """The exit code of pytest over the whole suite, in parallel unless `-n` or a debugger says otherwise."""
    chosen = ["--slow"] if arguments.slow else []
    if not any(word.startswith(("-n", "--pdb", "-x", "--numprocesses")) for word in rest):
        chosen += ["-n", str(max(2, min(os.cpu_count() or 2, 8))), "--dist", "worksteal"]
    return _run("-m", "pytest", *chosen, *rest)


def openapi(arguments: Namespace, _: list[str]) -> int:
    """0 when the committed document equals the application's, or has been written."""
    if arguments.write:
        CONTRACT.parent.mkdir(exist_ok=True)
        CONTRACT.write_bytes(contract())
        PROBLEMS.write_text(problem_table.table())
        say(f"written: {CONTRACT}, {PROBLEMS}")
        return DONE
    return DONE if _none(contract_differences()) else FAILED


def bench(_: Namespace, rest: list[str]) -> int:
    """The exit code of the benches."""
    if not (ROOT / "benchmarks" / "__main__.py").exists():
        raise CommandFailed("The benches are not part of this installation; use a full checkout.")
    return _run("-m", "benchmarks", *rest)


def register(commands: Any) -> None:
    """Declare the commands."""
    parser: ArgumentParser = commands.add_parser("check", help="format, lint, types, imports, migrations, contract")
    parser.set_defaults(run=check)
    parser = commands.add_parser("test", help="the test suite; further arguments go to pytest")
    parser.add_argument("--slow", action="store_true", help="the full-size tests too")
    parser.set_defaults(run=test, takes_rest=True)
    parser = commands.add_parser("openapi", help="compare openapi/v1.json with the application")
    parser.add_argument("--write", action="store_true", help="write it instead")
    parser.set_defaults(run=openapi)
    parser = commands.add_parser("bench", help="measure; further arguments go to the benches", add_help=False)
    parser.set_defaults(run=bench, takes_rest=True)


def _run(*words: str) -> int:
    return subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode


def _tool(*words: str) -> bool:
    return _run(*words) == 0


def _none(differences: list[str]) -> bool:
    for line in differences:
        say(line)
    return not differences
