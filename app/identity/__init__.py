"""Who is calling: organisations, networks, credentials, tokens."""
