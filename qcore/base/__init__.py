"""The ground: the standard library only, and nothing of qcore but errors."""
