"""Command line and dashboard for qcore and Celery workers."""

VERSION = "0.1.0"
