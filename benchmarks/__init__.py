"""Benches: what the service can do, measured against a bare application on the same machine in the same run."""
