"""Exchange: change feed, imports, exports and webhooks; readers of `revision` and callers of the store."""
