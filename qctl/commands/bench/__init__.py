"""`qctl bench`."""
