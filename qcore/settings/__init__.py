"""Settings: names, types, defaults, where they come from."""
