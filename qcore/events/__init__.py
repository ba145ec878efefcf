"""Events: what workers and clients report."""
