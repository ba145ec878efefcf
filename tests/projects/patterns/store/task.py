"""The base class of all tasks."""

from contextvars import ContextVar
from typing import Any

from celery import Task

SCOPE: ContextVar[str] = ContextVar("scope", default="none")


class ScopedTask(Task):
    """Opens a scope around each run."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = SCOPE.set(f"in {self.name}")
        try:
            return super().__call__(*args, **kwargs)
        finally:
            SCOPE.reset(token)
