"""The operator's cockpit for qcore and Celery workers."""
