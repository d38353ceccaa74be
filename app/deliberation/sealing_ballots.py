"""Sealing: the fingerprint of a round's ballots, with which anyone who may see them can check that none was changed.

It is taken over regions and contents only, in an order of their own, and over a random salt that is published together
with the ballots: so it neither names an organisation nor lets anyone test a guess while the ballots are hidden.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def normalised(content: Mapping[str, Any]) -> dict[str, Any]:
    """A ballot's content in one form: the order inside a tier says nothing, so it is sorted."""
    if "tiers" in content:
        return {"tiers": [sorted(tier) for tier in content["tiers"]]}
    return {"votes": dict(sorted(content["votes"].items()))}


def in_order(ballots: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Regions and contents only, sorted by their canonical form: an order that tells nothing about who cast them."""
    return sorted(({"region": one["region"], **normalised(one)} for one in ballots), key=canonical)


def new_salt() -> str:
    """32 random bytes as hexadecimal digits."""
    return secrets.token_hex(32)


def fingerprint(round_id: str, salt: str, ballots: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the canonical JSON of `{"ballots", "round", "salt"}`, the ballots as `in_order` gives them."""
    sealed = canonical({"round": round_id, "salt": salt, "ballots": in_order(ballots)})
    return sha256(sealed.encode()).hexdigest()
