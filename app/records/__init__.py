"""What all kinds share: marking, store, revisions, stored documents, pages. Knows no kind."""
