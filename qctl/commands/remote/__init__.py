"""`qctl inspect` and `qctl control`."""
