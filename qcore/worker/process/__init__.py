"""The worker as an operating system process: logging, pid file, options."""
