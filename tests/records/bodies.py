"""Bodies for tests: of each kind, one that can be published and refers to nothing."""

from typing import Any

from app.records.kind import Kind


def publishable(kind: Kind, **changes: Any) -> dict[str, Any]:
    """The kind's example less its references, published, with `changes`."""
    body = {**kind.example}
    for path in (*kind.refs, *kind.organisation_refs):
        body.pop(path.relation, None)
    return {**body, "status": "published", **changes}
