"""What every endpoint shares on the wire: problems, strict input, idempotency, headers, limits."""
