"""`qctl demo`."""
