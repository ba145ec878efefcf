"""`qctl schedule` and its commands."""
