"""`qctl events`."""
