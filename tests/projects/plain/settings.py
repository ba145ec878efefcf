"""The settings, as of a Django project."""

import os

DEBUG = True
SHOP_BROKER_URL = os.environ["SHOP_URL"]
SHOP_RESULT_BACKEND = os.environ["SHOP_URL"]
SHOP_TASK_DEFAULT_QUEUE = "shop"
SHOP_TASK_ROUTES = {"plain.mail": {"queue": "mails"}}
SHOP_EMAIL_TASK_CONFIG = {"of": "another package"}
