"""From the outcome of a run to the settlement of its delivery."""
