"""Finding things: vocabularies now; search, facets and matching later."""
