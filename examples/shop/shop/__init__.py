"""A shop: orders are charged and confirmed by tasks."""

from .celery import app as celery_app

__all__ = ("celery_app",)
