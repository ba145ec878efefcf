"""The dashboard's state: folded events and replies."""
