"""The interface of an app for the packages below it, as protocols; `qcore/app/app.py` is the app.

Results, remote control and events need a ClientApp, signatures a SendingApp, tasks a TaskApp. Each
protocol names only what its users call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from qcore.brokers.base import Broker
from qcore.brokers.contract.records import Message
from qcore.results.base import ResultStore
from qcore.settings.config import Config
from qcore.wire.result_form import ResultForm


class RemoteControl(Protocol):
    """Requests to workers: see control/client.py."""

    def revoke(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any: ...

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any: ...

    def tell(self, method: str, arguments: dict[str, Any] | None = None) -> int | None: ...


class ClientApp(Protocol):
    """An app with connections: settings, broker, results, remote control."""

    @property
    def conf(self) -> Config: ...

    @property
    def broker(self) -> Broker: ...

    @property
    def results(self) -> ResultStore: ...

    @property
    def result_form(self) -> ResultForm: ...

    @property
    def results_if_open(self) -> ResultStore | None: ...

    @property
    def backend(self) -> Any: ...

    @property
    def control(self) -> RemoteControl: ...

    def broker_url(self) -> str: ...

    def broker_options(self) -> dict[str, Any]: ...

    def tick_clock(self, seen: int = 0) -> int:
        """The next value of the logical clock, above `seen`."""


class CallableTask(Protocol):
    """A task as signatures use it: it can be published, or run in this process."""

    @property
    def name(self) -> str: ...

    @property
    def overrides_sending(self) -> bool:
        """Whether the project overrides its apply_async()."""

    @property
    def apply_async(self) -> Callable[..., Any]:
        """apply_async(args, kwargs, **options): publish a call."""

    @property
    def apply(self) -> Callable[..., Any]:
        """apply(args, kwargs, **options): run it here."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class SendingApp(ClientApp, Protocol):
    """An app that turns calls into messages and publishes them; result handles have the type Any."""

    @property
    def tasks(self) -> Mapping[str, CallableTask]: ...

    @property
    def overrides_sending(self) -> bool:
        """Whether the project overrides its send_task()."""

    def task_named(self, name: str) -> CallableTask: ...

    def message(
        self,
        name: str,
        args: Any,
        kwargs: dict[str, Any],
        task_id: str,
        options: dict[str, Any],
        task: Any = None,
        is_sent: bool = True,
    ) -> Message: ...

    def send_task(
        self, name: str, args: Any = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Any: ...

    def send_messages(self, messages: Sequence[Message], options: Mapping[str, Any] = ...) -> None: ...

    def adopt(self, result: Any) -> None:
        """Record `result` as a child of the task that runs in this thread or coroutine, if any."""

    def chord_ttl_s(self) -> float | None: ...

    def reply_to(self) -> str | None: ...
