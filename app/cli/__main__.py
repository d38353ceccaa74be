"""Entry of the `minga` command: declares every command, runs one, and turns failures into exit codes.

0 done · 1 failed or refused · 2 used wrongly. With `--json` exactly one JSON document is written to standard output,
also when the command fails; everything else goes to standard error.
"""

import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Sequence
from typing import NoReturn

from app import cli_client
from app.cli import admin, doctor, gate, serve
from app.cli.outcome import FAILED, MISUSED, CommandFailed, say, show


class MisuseError(Exception):
    """The command line cannot be understood; the text holds the usage."""


class Parser(ArgumentParser):
    """A parser that raises instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        """Errors: MisuseError."""
        raise MisuseError(f"{self.format_usage()}{self.prog}: {message}")


def parser() -> Parser:
    """All commands."""
    declared = Parser(prog="minga", description="Share issues, cases and resources on security sector reform.")
    commands: _SubParsersAction[ArgumentParser] = declared.add_subparsers(metavar="COMMAND", required=True)  # type: ignore[assignment]
    serve.add_parser(commands)
    admin.add_parser(commands)
    doctor.add_parser(commands)
    gate.add_parsers(commands)
    cli_client.register(commands)
    return declared


def main(words: Sequence[str]) -> int:
    """The exit code of the command."""
    json = "--json" in words
    try:
        arguments, rest = parser().parse_known_args(words)
        if rest and not hasattr(arguments, "takes_rest"):
            raise MisuseError(f"minga: unknown arguments: {' '.join(rest)}")
        if arguments.run.__module__ == cli_client.__name__:
            return cli_client.carry_out(arguments)
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
