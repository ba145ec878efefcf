"""The worker as a process of its system: logging, pid file, options."""
