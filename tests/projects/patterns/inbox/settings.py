"""The settings, in old names."""

import os

BROKER_URL = os.environ["BROKER"]
CELERY_RESULT_BACKEND = os.environ["BROKER"]
CELERY_IGNORE_RESULT = False
CELERY_DEFAULT_QUEUE = "default"
CELERY_TASK_SERIALIZER = "json"
CELERY_SEND_EVENTS = False
CELERY_IMPORTS = ("tests.projects.patterns.inbox.tasks",)
CELERYD_HIJACK_ROOT_LOGGER = False
UNRELATED_THING = object()
