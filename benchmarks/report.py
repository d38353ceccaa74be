"""What benches are told, and how they tell what they found."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.drive import Run


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    seconds: float
    rounds: int
    records: int
    driver: str
    json: bool


def say(options: Options, text: str) -> None:
    """Writes for people: to standard output, or to standard error where that belongs to the JSON document."""
    (sys.stderr if options.json else sys.stdout).write(text + "\n")
    (sys.stderr if options.json else sys.stdout).flush()


def ratio(above: Sequence[Run], below: Sequence[Run]) -> float:
    """The median, over the rounds, of what one side did in a second for each request of the other.

    Two measurements of one round follow each other, so that what else the machine does meets both.
    """
    return median(one.per_second / other.per_second for one, other in zip(above, below, strict=True))


def middle(runs: Sequence[Run]) -> dict[str, Any]:
    """Medians over several runs of the same thing. Errors: AssertionError when a request failed."""
    assert not sum(run.failed for run in runs), "requests failed during a measurement"
    return {
        "requests_per_second": round(median(run.per_second for run in runs), 1),
        "p50_ms": round(median(run.p50_ms for run in runs), 3),
        "p99_ms": round(median(run.p99_ms for run in runs), 3),
    }
