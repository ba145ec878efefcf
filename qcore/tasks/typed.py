"""The types of tasks and calls, for type checkers: a task keeps the signature of its function.

In:  a function and options.  Out: type variables, and which options a call and a decorator have.
At run time only the type variables exist. base/keywords.py checks the options then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import Any, TypedDict

    from typing_extensions import ParamSpec, TypeVar

    P = ParamSpec("P", default=...)
    R_co = TypeVar("R_co", covariant=True, default=Any)
    V = TypeVar("V")

    class CallOptions(TypedDict, total=False):
        """Options of apply_async(). An option that neither qcore nor Celery has is accepted at run time, as a
        property of the message, and is an error for a type checker."""

        task_id: str | None
        queue: Any
        exchange: Any
        routing_key: str | None
        priority: int | None
        countdown: float | None
        eta: datetime | str | None
        expires: float | datetime | timedelta | str | None
        headers: Mapping[str, Any] | None
        serializer: str | None
        compression: str | None
        time_limit: float | None
        soft_time_limit: float | None
        ignore_result: bool | None
        shadow: str | None
        link: Any
        link_error: Any
        retries: int | None
        retry: bool | None
        reply_to: str | None
        root_id: str | None
        parent_id: str | None
        group_id: str | None
        group_index: int | None
        chord: Any
        chain: Any
        stamped_headers: Sequence[str] | None
        stamps: Mapping[str, Any] | None
        idempotency_key: str | None
        add_to_parent: bool
        immutable: bool
        argsrepr: str | None
        kwargsrepr: str | None
        producer: Any
        connection: Any
        publisher: Any
        router: Any
        result_cls: Any
        route_name: str | None
        task_type: Any
        replaced_task_nesting: int
        retry_policy: Mapping[str, Any] | None
        timeout: float | None
        confirm_timeout: float | None
        delivery_mode: int | str | None
        mandatory: bool
        immediate: bool
        declare: Any
        exchange_type: str | None
        create_sent_event: bool

    class PlainTaskOptions(TypedDict, total=False):
        """Options of the decorators, without those on which the type of the task depends."""

        name: str | None
        shared: bool
        lazy: bool
        max_retries: int | None
        default_retry_delay: float
        autoretry_for: Sequence[type[BaseException]]
        dont_autoretry_for: Sequence[type[BaseException]]
        retry_kwargs: dict[str, Any] | None
        retry_backoff: bool | float
        retry_backoff_max: float
        retry_jitter: bool
        throws: tuple[type[BaseException], ...]
        typing: bool
        ignore_result: bool | None
        store_errors_even_if_ignored: bool | None
        store_eager_result: bool | None
        acks_late: bool | None
        acks_on_failure_or_timeout: bool | None
        acks_on_failure: bool | None
        acks_on_timeout: bool | None
        reject_on_worker_lost: bool | None
        retry_on_worker_lost: bool | None
        track_started: bool | None
        time_limit: float | None
        soft_time_limit: float | None
        rate_limit: str | float | None
        serializer: str | None
        compression: str | None
        priority: int | None
        expires: Any
        queue: str | None
        exchange: str | None
        routing_key: str | None
        send_events: bool
        Request: Any
        abstract: bool
        trail: bool
        resultrepr_maxsize: int

    class PydanticTaskOptions(PlainTaskOptions, total=False):
        pydantic_strict: bool | None
        pydantic_context: Mapping[str, Any] | None
        pydantic_dump_kwargs: Mapping[str, Any] | None
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R_co = TypeVar("R_co", covariant=True)
    V = TypeVar("V")
