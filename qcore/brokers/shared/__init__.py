"""Parts that several drivers use."""
