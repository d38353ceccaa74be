"""Memory of a process that has started: what it holds for good is kept out of the garbage collector's rounds."""

import gc

YOUNG_OBJECTS = 20_000
"""Objects made, less those freed, before the young ones are looked through. A batch of 500 records makes more than a
hundred thousand; at Python's 700 the rounds took a seventh of an import's time (docs/measurements.md)."""


def settle() -> None:
    """Sets aside what exists now: models, routes, vocabularies. Call it once, when everything is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
