"""Signatures: calls not yet sent, as data that travels in messages.

In:  a task, its arguments, its options.  Out: a mapping with Celery's keys (task, args, kwargs,
options, subtask_type, immutable), which can be sent now or put into another message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcore.errors import ConfigError

if TYPE_CHECKING:
    from qcore.app import App
    from qcore.result import AsyncResult


class Signature(dict[str, Any]):
    """One call: `add.s(2, 2)`. Partial arguments of a later call come before its own."""

    _app: App | None = None

    def __init__(
        self,
        task: str | dict[str, Any] | Any = None,
        args: tuple[Any, ...] | list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        *,
        immutable: bool = False,
        subtask_type: str | None = None,
        app: App | None = None,
    ) -> None:
        if isinstance(task, dict):
            super().__init__(task)
        else:
            name = task if isinstance(task, str) else task.name
            super().__init__(
                task=name,
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options=dict(options or {}),
                subtask_type=subtask_type,
                immutable=immutable,
            )
        self._app = app

    @property
    def task(self) -> str:
        return str(self["task"])

    @property
    def args(self) -> tuple[Any, ...]:
        return tuple(self.get("args") or ())

    @property
    def kwargs(self) -> dict[str, Any]:
        return self.get("kwargs") or {}

    @property
    def options(self) -> dict[str, Any]:
        return self.setdefault("options", {}) or {}

    @property
    def immutable(self) -> bool:
        return bool(self.get("immutable"))

    @property
    def app(self) -> App:
        if self._app is None:
            from qcore.current import current_app

            self._app = current_app()
        return self._app

    def merged(
        self, args: Any = (), kwargs: dict[str, Any] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """What a call with these partial arguments comes to."""
        together = {**self.options, **(options or {})}
        if self.immutable:
            return self.args, self.kwargs, together
        return (*tuple(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, together

    def clone(self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Signature:
        """A copy with partial arguments and options added."""
        a, k, o = self.merged(args, kwargs, options)
        return Signature(self.task, a, k, o, immutable=self.immutable, app=self._app)

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Add options (queue, countdown, …) in place."""
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def link(self, callback: dict[str, Any]) -> dict[str, Any]:
        """Call `callback` with the result when this succeeds."""
        self.options.setdefault("link", []).append(callback)
        return callback

    def link_error(self, errback: dict[str, Any]) -> dict[str, Any]:
        """Call `errback` with the id when this fails."""
        self.options.setdefault("link_error", []).append(errback)
        return errback

    def apply_async(
        self, args: Any = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Send it."""
        a, k, o = self.merged(args, kwargs, options)
        task = self.app.tasks.get(self.task)
        if task is not None:
            result: AsyncResult = task.apply_async(a, k, **o)
            return result
        return self.app.send_task(self.task, a, k, **o)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        return self.apply_async(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        a, k, _ = self.merged(args, kwargs)
        return self.app.task_named(self.task)(*a, **k)

    def __repr__(self) -> str:
        shown = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"


def signature(task: Any, *args: Any, app: App | None = None, **kwargs: Any) -> Signature:
    """A signature from a task name, a task, or the mapping of one. `args` and `kwargs` as in Celery:
    signature('proj.add', args=(2, 2), countdown=10)."""
    if isinstance(task, dict):
        if not isinstance(task.get("task"), str):
            raise ConfigError(f"not a signature: {task!r:.80}")
        found = task if isinstance(task, Signature) else Signature(task)
        found._app = app or found._app
        return found
    positional = args[0] if args else kwargs.pop("args", ())
    named = args[1] if len(args) > 1 else kwargs.pop("kwargs", None)
    immutable = bool(kwargs.pop("immutable", False))
    options = {**(kwargs.pop("options", None) or {}), **kwargs}
    return Signature(task, positional, named, options, immutable=immutable, app=app)
