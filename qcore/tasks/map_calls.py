"""Signatures that call one task for many items: xmap, xstarmap and chunks.

In:  a task and items.  Out: one message for all items, or a group of such messages.
Before this: canvas.py, the workflows.  After this: builtins.py, the tasks of these messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qcore.tasks.canvas import group
from qcore.tasks.signature import Flow, Signature, plain, signature
from qcore.tasks.signature_members import TYPES


class xmap(Signature):
    """One call that calls a task once for each item."""

    name = "celery.map"

    def __init__(self, task: Any, it: Iterable[Any], app: Any = None, **options: Any) -> None:
        found = signature(task, app=app)
        items = {"task": plain(found), "it": list(it)}
        # its mapping says no kind, as in Celery: it becomes a signature that calls the same task
        super().__init__(self.name, (), items, options, immutable=True, app=app or found._app)


class xstarmap(xmap):
    """One call that calls a task once for each tuple of arguments."""

    name = "celery.starmap"


class chunks(Flow):
    """A group of xstarmap calls, each with n tuples of arguments."""

    def __init__(self, task: Any, it: Iterable[Any], n: int, app: Any = None, **options: Any) -> None:
        found = signature(task, app=app)
        super().__init__(
            "celery.chunks",
            (),
            {"task": found, "it": list(it), "n": n},
            options,
            immutable=True,
            app=app or found._app,
        )

    def group(self) -> group:
        task, it, n = (self["kwargs"][k] for k in ("task", "it", "n"))
        return group(
            [xstarmap(task, it[i : i + n], app=self._app) for i in range(0, len(it), n)], app=self._app
        )

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Any = None) -> Any:
        """Publish the calls for n tuples of arguments each. Returns the handle of the group."""
        return cls(task, it, n, app=app).group()()

    def apply_async(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        return self.group().apply_async((), None, **{**self.options, **options})

    def apply(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        return self.group().apply()


def _map_of(kind: type[xmap], data: dict[str, Any]) -> Signature:
    return kind(data["kwargs"]["task"], data["kwargs"]["it"], **(data.get("options") or {}))


TYPES.update(
    xmap=lambda data: _map_of(xmap, data),
    xstarmap=lambda data: _map_of(xstarmap, data),
)
