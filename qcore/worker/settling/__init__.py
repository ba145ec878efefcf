"""From an outcome to what becomes of its delivery."""
