"""The settings. SHOP_DATABASE is the file of the database, for the results too, REDIS_URL the broker."""

import os
from pathlib import Path

SECRET_KEY = "only for this example"
INSTALLED_APPS = ["orders", "django_celery_results"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", Path(__file__).parent.parent / "shop.sqlite3"),
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

CELERY_BROKER_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_ROUTES = {"orders.tasks.send_*": {"queue": "mails"}}
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_TIME_LIMIT = 60
