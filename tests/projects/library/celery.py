"""The app, as django-celery-results describes it."""

import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.projects.library.settings")
django.setup()

app = Celery("library", include=["tests.projects.library.tasks"])
app.config_from_object("django.conf:settings", namespace="CELERY")
