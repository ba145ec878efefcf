"""The settings of Django; those of the tasks begin with CELERY_."""

import os

SECRET_KEY = "of a test"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["LIBRARY_DATABASE"],
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "library_cache"},
    "files": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": os.environ["LIBRARY_DATABASE"] + ".cache",
    },
}
INSTALLED_APPS = ["django_celery_results"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True

CELERY_BROKER_URL = os.environ["LIBRARY_BROKER"]
CELERY_RESULT_BACKEND = os.environ["LIBRARY_RESULTS"]
CELERY_CACHE_BACKEND = "files"
CELERY_RESULT_EXTENDED = True
CELERY_TASK_TRACK_STARTED = True
