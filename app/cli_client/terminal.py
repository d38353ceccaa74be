"""What a person sees: the one JSON document or a text, remarks beside it, and a bar on long work."""

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from app.client import Progress

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def emit(given: argparse.Namespace, document: Any, text: str) -> None:
    """Writes the one JSON document, or the text for people."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) if given.json else calm(text))
    sys.stdout.write("\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Writes a line for people to standard error."""
    sys.stderr.write(calm(text) + "\n")


def calm(text: str) -> str:
    """The text without what steers a terminal: a service, or another member, could send it."""
    return STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


@contextlib.contextmanager
def bar(label: str) -> Iterator[Progress]:
    """A progress bar on standard error while it is a terminal; else nothing is drawn."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    drawn = 0.0

    def draw(done: int, total: int | None) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < 0.1 and done != total:
            return
        drawn = now
        if total:
            filled = min(30, 30 * done // total)
            sys.stderr.write(f"\r{label} [{'#' * filled}{' ' * (30 - filled)}] {done:,} of {total:,}\x1b[K")
        else:
            sys.stderr.write(f"\r{label} {done:,}\x1b[K")
        sys.stderr.flush()

    try:
        yield draw
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
