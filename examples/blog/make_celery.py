"""The app of the worker: `celery -A make_celery worker` in this folder."""

from blog import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
