"""`qctl explain`."""
