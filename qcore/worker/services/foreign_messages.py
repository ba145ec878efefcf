"""Foreign messages: those that are no tasks, which the ConsumerSteps of a project receive.

In:  steps with get_consumers(channel), and a kombu connection of their own.  Out: calls of their callbacks,
in a thread of this file, so that a slow callback delays only other foreign messages. A lost connection is
made again, and the steps begin anew on it. Before this: steps.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from qcore.errors import ConfigError
from qcore.worker.services.bootsteps import CLOSE_S, ConsumerStep, within

log = logging.getLogger("qcore.worker")

#: seconds that one wait for messages takes at most, and between two attempts to connect
WAIT_S, RETRY_S, MOST_RETRY_S = 0.5, 0.5, 10.0


class ForeignMessages:
    """The connection, and the thread that waits for its messages."""

    def __init__(self, app: Any, parent: Any, on_exit: Callable[[SystemExit], None]) -> None:
        """parent: what the steps get; on_exit: what becomes of SystemExit that a callback raises."""
        self._app, self._parent, self._on_exit = app, parent, on_exit
        self._connection: Any = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._errors: tuple[type[BaseException], ...] = ()

    @property
    def connection(self) -> Any:
        """The connection; connects at its first use. Raises Unsupported for brokers that kombu does not
        reach, and kombu's OperationalError."""
        if self._connection is None:
            make = getattr(self._app, "connection_for_read", None)
            if make is None:
                raise ConfigError(
                    "an app with steps for foreign messages is made with `from celery import Celery`"
                )
            connection = make()
            # Without retries of kombu's own: they could not be interrupted by a shutdown.
            connection.ensure_connection(max_retries=1, timeout=connection.connect_timeout)
            self._connection = connection
            self._errors = tuple(connection.connection_errors) + tuple(connection.channel_errors)
        return self._connection

    @property
    def _steps(self) -> list[Any]:
        return [step for step in self._parent.steps if isinstance(step, ConsumerStep)]

    def start(self) -> None:
        """Wait for messages, in a thread, when a step has consumers."""
        if self._connection is not None and self._steps:
            self._thread = threading.Thread(target=self._serve, name="foreign-messages", daemon=True)
            self._thread.start()

    def end(self) -> bool:
        """Receive no further message; False when a callback still runs after CLOSE_S."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                log.warning("the thread of foreign messages is still busy; its message stays unacknowledged")
                return False
        return True

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            within(CLOSE_S, [connection.close], "the connection of foreign messages")

    def guard(self, consumer: Any) -> None:
        """Have errors of its callbacks logged: an OSError of theirs must not look like a lost connection."""
        consumer.callbacks = [self._guarded(callback) for callback in consumer.callbacks or ()]
        if consumer.on_message is not None:
            consumer.on_message = self._guarded(consumer.on_message)

    def _guarded(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> None:
            try:
                callback(*args, **kwargs)
            except SystemExit as exc:
                self._on_exit(exc)
            except Exception as exc:
                words = "a callback of foreign messages raised %r; a message that it has not acknowledged is "
                log.exception(words + "delivered again when the worker ends", exc)

        return call

    # --- the thread

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                self._wait()
            except self._errors as exc:
                if not self._ended.is_set():
                    log.warning("the connection of foreign messages is lost (%r); connecting again", exc)
                    self._reconnect()
            except Exception as exc:  # a message that cannot be decoded, without on_decode_error
                log.exception("a foreign message could not be read: %r", exc)

    def _wait(self) -> None:
        connection = self._connection
        try:
            connection.drain_events(timeout=WAIT_S)
        except TimeoutError:
            pass
        if connection.heartbeat and connection.supports_heartbeats:
            connection.heartbeat_check()

    def _reconnect(self) -> None:
        """Begin anew on a new connection, however long the broker is away."""
        pause_s = RETRY_S
        self._drop()
        while not self._ended.wait(pause_s):
            pause_s = min(pause_s * 2, MOST_RETRY_S)
            try:
                for step in self._steps:
                    step.start(self._parent)
            except Exception as exc:
                log.warning("foreign messages: cannot connect (%r); trying again in %g s", exc, pause_s)
                self._drop()
            else:
                log.warning("foreign messages are received again")
                return

    def _drop(self) -> None:
        """Stop the steps, whose channels have ended with the connection, and drop the connection."""
        connection, self._connection = self._connection, None
        for step in reversed(self._steps):
            step.consumers = None
            try:
                step.stop(self._parent)
            except Exception as exc:
                log.warning("the step %s did not stop after the loss of its connection: %r", step.alias, exc)
        if connection is not None:
            within(CLOSE_S, [connection.collect], "the lost connection of foreign messages")
