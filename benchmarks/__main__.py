"""`./minga bench [reads|growth|exchange|volume …]`: runs the named benches, prints what they find, exits 0 at the end.

A target that is missed is printed as missed; it does not make the command fail, because machines differ.
"""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import orjson

from benchmarks import drive, exchange, growth, reads, volume
from benchmarks.report import Options, say

BENCHES: dict[str, Callable[[Options], dict[str, Any]]] = {
    "reads": reads.run,
    "growth": growth.run,
    "exchange": exchange.run,
    "volume": volume.run,
}
"""Each bench by name; its function measures, tells what it finds, and returns it as JSON."""


def main(words: list[str]) -> int:
    """0 when every bench asked for has run."""
    parser = ArgumentParser(prog="minga bench", description="Measure the service.")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"{', '.join(BENCHES)} (reads)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement (4)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side; the median counts (5)")
    parser.add_argument(
        "--records",
        type=int,
        default=20_000,
        help="generated records (20000); growth: ten times more, volume: fifty times",
    )
    parser.add_argument("--driver", choices=["wrk", "bundled"], help="what sends the requests (wrk where present)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    given = parser.parse_args(words)
    unknown = set(given.benches) - set(BENCHES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(BENCHES)}")
    options = Options(given.seconds, given.rounds, given.records, drive.chosen(given.driver), given.json)
    measured: dict[str, Any] = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "driver": options.driver,
        "seconds": options.seconds,
        "rounds": options.rounds,
    }
    for name in given.benches or ["reads"]:
        say(options, f"# {name}")
        measured[name] = BENCHES[name](options)
    if options.json:
        sys.stdout.write(orjson.dumps(measured, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
