"""Entry of the `minga` command: declares every command, runs one, and turns failures into exit codes.

0 done · 1 failed or refused · 2 used wrongly. With `--json` exactly one JSON document is written to standard output,
also when the command fails; everything else goes to standard error.
"""

import importlib
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import NoReturn

from app.cli.outcome import FAILED, MISUSED, CommandFailed, say, show

MEMBER_SIDE = "app.cli_client"
MODULES = {
    "serve": "app.cli.serve",
    "worker": "app.cli.worker",
    "admin": "app.cli.admin",
    "doctor": "app.cli.doctor",
    **dict.fromkeys(("check", "test", "openapi", "bench"), "app.cli.gate"),
    **dict.fromkeys(("login", "me", "list", "show", "push", "pull", "watch", "export", "import"), MEMBER_SIDE),
}
"""The module of each command; each has a function `register` that declares its commands."""


class MisuseError(Exception):
    """The command line cannot be understood; the text holds the usage."""


class Parser(ArgumentParser):
    """A parser that raises instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        """Errors: MisuseError."""
        raise MisuseError(f"{self.format_usage()}{self.prog}: {message}")


def parser(first: str) -> Parser:
    """The commands; where the first word names one, only its module is loaded, because loading all takes seconds."""
    declared = Parser(prog="minga", description="Share issues, cases and resources on security sector reform.")
    commands = declared.add_subparsers(metavar="COMMAND", required=True)
    for module in [MODULES[first]] if first in MODULES else dict.fromkeys(MODULES.values()):
        importlib.import_module(module).register(commands)
    return declared


def main(words: Sequence[str]) -> int:
    """The exit code of the command."""
    json = "--json" in words
    try:
        first = words[0] if words else ""
        arguments, rest = parser(first).parse_known_args(words)
        if rest and not hasattr(arguments, "takes_rest"):
            raise MisuseError(f"minga: unknown arguments: {' '.join(rest)}")
        if MODULES[first] == MEMBER_SIDE:
            return int(importlib.import_module(MEMBER_SIDE).carry_out(arguments))
        code: int = arguments.run(arguments, rest)
        return code
    except MisuseError as error:
        return _failed(str(error), "usage", MISUSED, json=json)
    except CommandFailed as error:
        return _failed(str(error), error.code, FAILED, json=json)


def _failed(text: str, code: str, exit_code: int, *, json: bool) -> int:
    say(text)
    if json:
        show({"error": {"code": code, "detail": text}}, json=True)
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
