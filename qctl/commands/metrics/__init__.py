"""`qctl metrics`."""
