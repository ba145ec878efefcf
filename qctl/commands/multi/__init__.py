"""`qctl multi`."""
