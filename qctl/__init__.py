"""Command line and dashboard for qcore and Celery workers."""

import gc

VERSION = "0.1.0"
#: the garbage collector's thresholds, and those while a command starts: imports make many objects, no garbage
COLLECT, COLLECT_AT_START = gc.get_threshold(), (100_000, 10, 10)
