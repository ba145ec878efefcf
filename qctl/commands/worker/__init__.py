"""`qctl worker`."""
