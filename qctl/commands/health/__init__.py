"""`qctl health`."""
