"""Django's settings of the archive."""

import os

from celery.schedules import crontab

SECRET_KEY = "for tests"
INSTALLED_APPS = ["tests.projects.patterns.documents"]
USE_TZ = True
DATABASES = {}
CELERY_BROKER_URL = os.environ["BROKER"]
CELERY_RESULT_BACKEND = os.environ["BROKER"]
CELERY_TASK_SERIALIZER = "sealed"
CELERY_ACCEPT_CONTENT = ["application/json", "application/x-sealed"]
CELERY_TASK_TRACK_STARTED = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = True
CELERY_BEAT_SCHEDULE = {"tidy": {"task": "documents.tidy", "schedule": crontab(minute="*/10", hour="0-5")}}
CELERY_EMAIL_BACKEND_OF_ANOTHER_PACKAGE = "kept"
