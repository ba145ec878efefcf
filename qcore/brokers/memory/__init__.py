"""The driver for one process: queues in memory."""
