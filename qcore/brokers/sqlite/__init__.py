"""The embedded driver: one SQLite file."""
