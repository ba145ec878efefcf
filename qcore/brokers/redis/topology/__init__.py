"""How the primary is found: Sentinel, or a cluster."""
