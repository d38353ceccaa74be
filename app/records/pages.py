"""Pages of records: the sealed keyset cursors that every list has."""

from app.identity.pages import opened, sealed

__all__ = ["opened", "sealed"]
