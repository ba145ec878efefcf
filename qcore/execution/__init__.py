"""The run of one task, from its message to its outcome; below the pools and the worker."""
