"""A blog made by a factory, as Flask's documentation describes it; its tasks run inside the application."""

import os

from celery import Celery, Task
from flask import Flask


def create_app() -> Flask:
    app = Flask(__name__)
    url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
    app.config.from_mapping(
        FOLDER=os.environ.get("BLOG_FOLDER", "posts"),
        TITLE="A blog",
        CELERY={"broker_url": url, "result_backend": url, "task_ignore_result": True},
    )
    app.config.from_prefixed_env()
    celery_init_app(app)

    from . import views

    app.register_blueprint(views.pages)
    return app


def celery_init_app(app: Flask) -> Celery:
    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
