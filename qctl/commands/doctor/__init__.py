"""`qctl doctor`."""
