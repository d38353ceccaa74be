"""The `minga` command: the service, the operator's acts, the gate and the tests."""
