"""An analytics service: periodic tasks added by code, counters in signals, results ignored by default."""
