"""`qctl migrate`."""
