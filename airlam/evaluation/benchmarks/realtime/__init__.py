"""The benchmark of predictions that arrive in time."""
