"""Settings: names, types, defaults, sources."""
