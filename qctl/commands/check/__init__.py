"""`qctl check`."""
