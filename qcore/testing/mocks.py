"""Celery's mocks of messages and context managers, for unit tests of projects that use them.

In:  a call.  Out: a Mock with the attributes of a kombu message. As in celery.contrib.testing.mocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import Mock

from qcore.base.times import new_id


def TaskMessage(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    shadow: str | None = None,
    utc: bool | None = None,
    **options: Any,
) -> Any:
    """A message of protocol 2; the options are headers."""
    id = id or new_id()
    embedded = {"callbacks": callbacks, "errbacks": errbacks, "chain": chain}
    headers = {"id": id, "task": name, "shadow": shadow, **options}
    return _message(id, headers, (args, kwargs or {}, embedded))


def TaskMessage1(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    **options: Any,
) -> Any:
    """A message of protocol 1; the options are in its body."""
    id = id or new_id()
    body = {
        "task": name,
        "id": id,
        "args": args,
        "kwargs": kwargs or {},
        "callbacks": callbacks,
        "errbacks": errbacks,
        **options,
    }
    return _message(id, {}, body)


def _message(id: str, headers: dict[str, Any], payload: Any) -> Any:
    from kombu import serialization

    dumps: Callable[..., Any] = serialization.dumps
    message = Mock(name=f"TaskMessage-{id}")
    message.headers, message.payload = headers, payload
    message.content_type, message.content_encoding, message.body = dumps(payload, serializer="json")
    return message


def task_message_from_sig(
    app: Any, sig: Any, utc: bool = True, TaskMessage: Callable[..., Any] = TaskMessage
) -> Any:
    """The message of a signature, whose countdown, eta and expires become ISO texts."""
    sig.freeze()
    options = sig.options
    links = {
        name: [dict(one) for one in given] if given else None
        for name, given in (
            ("callbacks", options.pop("link", None)),
            ("errbacks", options.pop("link_error", None)),
        )
    }
    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    return TaskMessage(
        sig.task,
        id=sig.id,
        args=sig.args,
        kwargs=sig.kwargs,
        **links,
        eta=_instant(app, countdown or eta),
        expires=_instant(app, options.pop("expires", None)),
        utc=utc,
        **options,
    )


def _instant(app: Any, given: Any) -> Any:
    """A number of seconds from now, or a datetime, as ISO text."""
    if isinstance(given, int | float) and given:
        given = app.now() + timedelta(seconds=given)
    return given.isoformat() if isinstance(given, datetime) else given


class _ContextMock(Mock):
    """A Mock whose class has the methods of a context manager, which `with` looks for there."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exc_info: object) -> None: ...


def ContextMock(*args: Any, **kwargs: Any) -> Any:
    """A Mock for `with`, which gives itself and raises what the block raises."""
    made = _ContextMock(*args, **kwargs)
    made.attach_mock(_ContextMock(return_value=made), "__enter__")
    made.attach_mock(_ContextMock(return_value=None), "__exit__")
    return made
