"""`qctl queue`."""
