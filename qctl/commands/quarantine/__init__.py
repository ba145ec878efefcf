"""`qctl quarantine`."""
