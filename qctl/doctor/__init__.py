"""What `qctl doctor` looks at (facts.py) and what it makes of it (checks.py)."""
