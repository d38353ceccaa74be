"""Validators and preconditions: those of every address, named here for the rooms above."""

from app.http.etag import expected_version, held_version, matches, of_parts, of_version

__all__ = ["expected_version", "held_version", "matches", "of_parts", "of_version"]
