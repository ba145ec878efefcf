"""The table of a million tasks, in columns."""
