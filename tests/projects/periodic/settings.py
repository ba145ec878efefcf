"""The settings of Django; those of the tasks begin with CELERY_."""

import os

from celery.schedules import crontab

SECRET_KEY = "of a test"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["PERIODIC_DATABASE"],
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
INSTALLED_APPS = ["django_celery_beat"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
TIME_ZONE = "Europe/Berlin"
USE_TZ = True

CELERY_TIMEZONE = TIME_ZONE
CELERY_BROKER_URL = os.environ["PERIODIC_BROKER"]
CELERY_RESULT_BACKEND = os.environ["PERIODIC_BROKER"]
CELERY_BEAT_SCHEDULE = {
    "declared": {
        "task": "periodic.note",
        "schedule": 1.0,
        "args": ("declared",),
        "options": {"queue": "special"},
    },
    "report": {"task": "periodic.note", "schedule": crontab(hour=7, minute="*/15", day_of_week="mon-fri")},
}
