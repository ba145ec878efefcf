"""Events: what workers say happened."""
