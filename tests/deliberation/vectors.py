"""The worked examples, as the tests of several modules read them."""

import json
from pathlib import Path
from typing import Any

from app.deliberation.aggregation import RankingBallot

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "test_vectors.json").read_text(encoding="utf-8"))
ISSUES: list[str] = VECTORS["priority"]["issues"]


def ballots() -> list[RankingBallot]:
    """The 17 ballots of the worked example."""
    return [
        RankingBallot(group["region"], tuple((issue,) for issue in group["ranking"].split(">")))
        for group in VECTORS["priority"]["ballots"]
        for _ in range(group["orgs"])
    ]
