"""Run one task; below the pools and the worker."""
