"""`qctl task`."""
