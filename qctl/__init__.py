"""The operator's cockpit for qcore and Celery workers."""

VERSION = "0.1.0"
