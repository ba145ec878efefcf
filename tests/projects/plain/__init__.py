"""A project as its users write it, for Celery alone: the tests run it on both workers."""

from .celery import app as celery_app

__all__ = ("celery_app",)
