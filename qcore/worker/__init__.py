"""The worker: what runs for hours."""
