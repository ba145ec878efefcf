"""`qctl task`: tasks found, shown and followed, wherever they are: at workers, in queues, or in the past."""
