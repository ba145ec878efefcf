"""A web shop: a task class with a scope, ways of discovery, retries, hooks as functions, own schedules."""

from .celery import app

__all__ = ["app"]
