"""The app, as django-celery-beat describes it."""

import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.projects.periodic.settings")
django.setup()

app = Celery("periodic", include=["tests.projects.periodic.tasks"])
app.config_from_object("django.conf:settings", namespace="CELERY")
