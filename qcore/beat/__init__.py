"""The scheduler: it publishes the entries of the schedule."""
